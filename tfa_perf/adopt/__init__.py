"""Which of our pieces would pay in an existing trainer, from a short profile of it."""
