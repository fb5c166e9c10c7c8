"""Benchmarks of tieralloc; README.md says how to run and how to read them."""
