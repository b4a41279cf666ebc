"""Before and after of each bottleneck: ``pytest benchmarks``."""
