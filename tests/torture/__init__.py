"""Torture: random campaigns against the promises of a store. `python -m tests.torture --help`."""
