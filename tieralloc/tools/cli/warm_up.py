"""``tieralloc warm-up``."""

from __future__ import annotations

import argparse

from tieralloc.restart import from_trace
from tieralloc.tools.cli import arguments as types
from tieralloc.tools.cli import common, options

DESCRIPTION = """\
Write the rows of a trace, the last accessed ones last, for TieredStore.warm_up: a store that
opens for the first time begins with the rows that a fast tier under lru would hold. 8 bytes per
distinct row; of more rows than the fast tier has, the last ones count. A store that was open before
needs no such file: it saves its resident rows itself (File.warm_restart_interval)."""
EXAMPLES = "tieralloc warm-up day.npz --out day.warm"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    options.add_trace_file(parser)
    parser.add_argument("--out", required=True, metavar="F", help="output file")
    options.add(parser, "--until", types.share, "X", "share of the accesses, from the start", 1.0)
    options.add_force(parser)


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    common.check_new(arguments.out, arguments.force)
    trace = common.read_trace(arguments.trace)
    resident = from_trace(trace, arguments.until)
    resident.write(arguments.out)
    print(f"{arguments.out}: {len(resident.rows):,} rows of {len(resident.tables)} tables")
