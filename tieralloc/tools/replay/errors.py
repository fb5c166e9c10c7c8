"""Errors of a replay."""


class VerificationError(RuntimeError):
    """A served vector is not the sum of its rows."""
