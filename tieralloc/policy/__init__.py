"""Learned policies: policy directories, loading, and starting them in a store."""
