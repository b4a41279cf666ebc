"""The results page, and what it reads of benchmarks, claims, sweeps and profiles."""
