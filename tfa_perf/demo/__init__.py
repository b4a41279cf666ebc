"""The whole path in one command: the report's trainer and ours, side by side, on real bars."""
