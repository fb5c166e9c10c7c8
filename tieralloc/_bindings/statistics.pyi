"""Types of `statistics`: it has C functions only."""
