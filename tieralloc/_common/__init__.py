"""Helpers that several rooms share: sizes, files, progress, torch."""
