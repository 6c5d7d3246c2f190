"""Benchmarks: side by side with peers, in one run. Figures are ratios of CPU seconds; no test asserts a time."""
