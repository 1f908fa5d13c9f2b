"""Experiments for the benchmarks of the harness."""
