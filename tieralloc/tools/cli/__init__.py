"""The ``tieralloc`` command."""
