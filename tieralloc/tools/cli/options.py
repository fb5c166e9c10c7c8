"""Options of several subcommands."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from tieralloc.tools.cli import arguments

#: Default capacities of simulate and train.
FRACTIONS = "1%,5%,10%,20%"


def add_trace(
    parser: argparse.ArgumentParser, known: Sequence[str], policies: str, fractions: str
) -> None:
    """Add the options of a command that runs policies on a trace."""
    add_trace_file(parser)
    parser.add_argument(
        "--policy",
        type=arguments.policies,
        default=policies,
        metavar="P[,P…]",
        help=f"policies: {', '.join(known)} (default: {policies})",
    )
    add_fractions(parser, fractions)
    parser.add_argument(
        "--count-from",
        type=arguments.share,
        default=0.5,
        metavar="X",
        help="share of the accesses that warms the fast tier, not counted (default: 0.5)",
    )
    add_seed(parser)
    add_outputs(parser)


def add_trace_file(parser: argparse.ArgumentParser) -> None:
    """Add the trace."""
    parser.add_argument("trace", metavar="T", help="trace file: .npz, .pt, .pt.gz or oracleGeneral")


def add_fractions(parser: argparse.ArgumentParser, fractions: str) -> None:
    """Add ``--fast-fraction``."""
    parser.add_argument(
        "--fast-fraction",
        type=arguments.fast_fractions,
        default=fractions,
        metavar="X[,X…]",
        help="capacities of the fast tier, as fractions of the trace's distinct rows, rounded down:"
        f" 0.05 or 5%% (default: {fractions.replace('%', '%%')})",
    )


def add_seed(parser: argparse.ArgumentParser) -> None:
    """Add ``--seed``."""
    parser.add_argument(
        "--seed", type=arguments.whole, default=0, metavar="N", help="random seed (default: 0)"
    )


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """Add ``--json`` and ``--plot``."""
    parser.add_argument(
        "--json",
        metavar="F",
        help="write the records to this file; '-': print them as the only output",
    )
    parser.add_argument("--plot", metavar="F", help="draw a plot, in the format of its suffix")


def add_directory(parser: argparse.ArgumentParser) -> None:
    """Add ``--dir``."""
    parser.add_argument(
        "--dir",
        metavar="DIR",
        help="directory of the slow tier's temporary file (default: TMPDIR, or the first of /tmp,"
        " /var/tmp and the working directory on a disk)",
    )
