"""Batch, micro-batch, kind of step and threads that train fastest on this machine, by trial."""
