"""One call at a time, under pytest-benchmark."""
