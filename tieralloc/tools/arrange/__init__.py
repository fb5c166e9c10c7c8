"""Learns orders of rows from a trace, and writes table files in them."""

from tieralloc.tools.arrange.apply import apply
from tieralloc.tools.arrange.learn import arrange, partitioners

__all__ = ["apply", "arrange", "partitioners"]
