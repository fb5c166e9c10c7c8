"""What learns: labels, id spaces, models, losses, training, and the policies compared against.

The folder `policies` at the repository's root, which is imported as ``tieralloc.policies``. Modules
that train or run models need torch, and say so where it is missing.
"""
