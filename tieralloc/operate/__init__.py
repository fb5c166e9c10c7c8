"""Operation of a serving store."""
