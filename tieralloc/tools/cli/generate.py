"""``tieralloc generate``."""

from __future__ import annotations

import argparse
import inspect

from tieralloc import trace
from tieralloc._common.files import naming
from tieralloc._common.progress import waiting
from tieralloc.tools import report
from tieralloc.tools.cli import arguments as types
from tieralloc.tools.cli import common, options

DESCRIPTION = """\
Write an access trace with the reuse histogram of Meta's dataset of 2021. Rows recur together in
sessions, and popularity drifts. The same options and seed give the same trace."""
EXAMPLES = """\
tieralloc generate --out day.npz
tieralloc generate --out big.npz --num-samples 1000000 --num-tables 26 --seed 7
tieralloc generate --out stream.oraclegeneral --drift 0 --session-reuse 0"""

_PARAMETERS = (
    ("num_tables", types.count, "N", "tables"),
    ("num_samples", types.count, "N", "samples, each with one bag per table"),
    (
        "mean_pooling_factor",
        types.numbers,
        "X[,X…]",
        "lookups per bag, one value or one per table",
    ),
    (
        "num_embeddings",
        types.counts,
        "N[,N…]",
        "rows per table, one value or one per table",
    ),
    ("session_length", types.number, "X", "mean samples per session"),
    ("session_reuse", types.number, "P", "probability that a row recurs within a session"),
    ("topic_affinity", types.number, "P", "probability that a row recurs with the same topic"),
    ("drift", types.number, "P", "share of the rows with temporary popularity"),
    ("seed", types.whole, "N", "random seed"),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "--out",
        required=True,
        metavar="T",
        help="output file; its suffix sets the format: .npz, .pt and .pt.gz (Meta's),"
        " .oraclegeneral (libCacheSim's)",
    )
    options.add_force(parser)
    group = parser.add_argument_group("parameters")
    defaults = inspect.signature(trace.generate).parameters
    for name, kind, metavar, text in _PARAMETERS:
        default = defaults[name].default
        text += f" (default: {'twice the accessed rows' if default is None else default})"
        group.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=text)


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    common.check_new(arguments.out, arguments.force)
    suffixes = [suffix for format in trace.FORMATS.values() for suffix in format.suffixes]
    if not arguments.out.lower().endswith(tuple(suffixes)):
        raise ValueError(
            f"{arguments.out}: unknown trace format; expected a suffix of {', '.join(suffixes)}"
        )
    given = {
        name: getattr(arguments, name)
        for name, *_ in _PARAMETERS
        if getattr(arguments, name) is not None
    }
    with waiting("generating"):
        generated = trace.generate(**given)
    with waiting("writing"), naming(arguments.out):
        trace.write(generated, arguments.out)
    print(f"{arguments.out}: {report.trace_summary(generated)}\n")
    print(report.reuse_table(generated))
