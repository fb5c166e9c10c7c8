"""Options of several subcommands."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from tieralloc.tools.cli import arguments

#: Default capacities of simulate and train.
FRACTIONS = "1%,5%,10%,20%"


def add(
    parser: argparse.ArgumentParser,
    name: str,
    kind: Callable[[str], Any],
    metavar: str,
    text: str,
    default: Any = None,
) -> None:
    """Add an option with a value; its help ends with the default, if there is one."""
    if default is not None:
        text += f" (default: {default})"
    parser.add_argument(
        name, type=kind, metavar=metavar, default=default, help=text.replace("%", "%%")
    )


def add_trace(
    parser: argparse.ArgumentParser, known: Sequence[str], policies: str, fractions: str
) -> None:
    """Add the options of a command that runs policies on a trace."""
    add_trace_file(parser)
    text = f"policies: {', '.join(known)}"
    add(parser, "--policy", arguments.policies, "P[,P…]", text, policies)
    add_fractions(parser, fractions)
    text = "share of the accesses that warms the fast tier, not counted"
    add(parser, "--count-from", arguments.share, "X", text, 0.5)
    add_seed(parser)
    add_outputs(parser)


def add_trace_file(parser: argparse.ArgumentParser) -> None:
    """Add the trace."""
    parser.add_argument("trace", metavar="T", help="trace file: .npz, .pt, .pt.gz or oracleGeneral")


def add_fractions(parser: argparse.ArgumentParser, fractions: str) -> None:
    """Add ``--fast-fraction``."""
    text = "capacities of the fast tier, as fractions of the trace's distinct rows, rounded down:"
    text += " 0.05 or 5%"
    add(parser, "--fast-fraction", arguments.fast_fractions, "X[,X…]", text, fractions)


def add_seed(parser: argparse.ArgumentParser) -> None:
    """Add ``--seed``."""
    add(parser, "--seed", arguments.whole, "N", "random seed", 0)


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """Add ``--json`` and ``--plot``."""
    text = "write the records to this file; '-': print them as the only output"
    add(parser, "--json", str, "F", text)
    add(parser, "--plot", str, "F", "draw a plot, in the format of its suffix")


def add_directory(parser: argparse.ArgumentParser) -> None:
    """Add ``--dir``."""
    text = "directory of the slow tier's temporary file (default: TMPDIR, or the first of /tmp,"
    add(parser, "--dir", str, "DIR", f"{text} /var/tmp and the working directory on a disk)")
