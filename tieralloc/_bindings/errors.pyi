"""Types of `errors`: it has C functions only."""
