"""Cost as work grows: sweeps of rows, features, window and batch, with fitted exponents."""
