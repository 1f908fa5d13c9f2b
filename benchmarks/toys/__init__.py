"""Experiments that only the benchmark of the harness runs."""
