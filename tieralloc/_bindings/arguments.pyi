"""Types of `arguments`: it has C functions only."""
