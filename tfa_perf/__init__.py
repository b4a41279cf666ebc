"""Find, time and remove the bottlenecks of PyTorch time-series trainers."""

__version__ = "0.1.0"
