"""Policies that are trained, the baselines beside them, and their labels, losses and training loop.

The folder `policies` of the repository, installed as ``tieralloc.policies``. Modules that train or
run models need torch; without it, their import raises ImportError.
"""
