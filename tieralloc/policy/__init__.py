"""Learned policies: their directories, and their way into a store."""
