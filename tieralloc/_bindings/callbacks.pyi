"""Types of `callbacks`: it has C functions only."""
