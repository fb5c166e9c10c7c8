"""Options of several subcommands."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from tieralloc._common.progress import waiting
from tieralloc.order import Order
from tieralloc.tools.cli import arguments
from tieralloc.trace import Trace

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
    """Add ``--fast-fraction`` and ``--fast-bytes``; `fast_fractions` returns the value."""
    group = parser.add_mutually_exclusive_group()
    text = "capacities of the fast tier: rows in it ÷ distinct rows of the trace, rounded down:"
    text += f" 0.05 or 5% (default: {fractions})"
    group.add_argument(
        "--fast-fraction",
        type=arguments.fast_fractions,
        metavar="X[,X…]",
        help=text.replace("%", "%%"),
        default=arguments.fast_fractions(fractions),
    )
    text = "capacities as DRAM of the tables: vectors, index and metadata, such as 64MiB; with"
    text += " --embedding-dim"
    group.add_argument("--fast-bytes", type=arguments.sizes, metavar="SIZE[,…]", help=text)


def add_dim(parser: argparse.ArgumentParser) -> None:
    """Add ``--embedding-dim``."""
    add(parser, "--embedding-dim", arguments.count, "N", "elements per row", 64)


def add_dtype(parser: argparse.ArgumentParser) -> None:
    """Add ``--dtype``."""
    choices = ("float32", "int8", "int4")
    text = "dtype of rows; int8 and int4 are quantised (default: float32)"
    parser.add_argument("--dtype", choices=choices, default=choices[0], help=text)


def add_order(parser: argparse.ArgumentParser) -> None:
    """Add ``--order``."""
    text = "order of the rows in the file, of tieralloc arrange; its map is part of --fast-bytes"
    add(parser, "--order", str, "ORDER", text)


def fast_fractions(
    given: argparse.Namespace, trace: Trace, policies: Sequence[str], order: Order | None = None
) -> list[float]:
    """Return the capacities of ``--fast-fraction`` or ``--fast-bytes`` as fractions."""
    if given.fast_bytes is None:
        fractions: list[float] = given.fast_fraction
        return fractions
    from tieralloc.tools.capacity import fractions_within

    with waiting("computing the capacities"):
        dtype = getattr(given, "dtype", "float32")
        return fractions_within(
            given.fast_bytes, trace, given.embedding_dim, policies, order, dtype
        )


def add_force(parser: argparse.ArgumentParser) -> None:
    """Add ``--force``."""
    parser.add_argument("--force", action="store_true", help="replace existing output files")


def add_seed(parser: argparse.ArgumentParser) -> None:
    """Add ``--seed``."""
    add(parser, "--seed", arguments.whole, "N", "random seed", 0)


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """Add ``--json`` and ``--plot``."""
    text = "write the records to this file; '-': print them as the only output"
    add(parser, "--json", str, "F", text)
    add(parser, "--plot", str, "F", "draw a plot, in the format of its suffix")
    add_force(parser)


def add_directory(parser: argparse.ArgumentParser) -> None:
    """Add ``--dir``."""
    text = "directory of the slow tier's temporary file (default: TMPDIR, or the first of /tmp,"
    add(parser, "--dir", str, "DIR", f"{text} /var/tmp and the working directory on a disk)")
