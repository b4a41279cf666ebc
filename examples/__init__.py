"""Stock scripts, each with one of our pieces swapped in beside it."""
