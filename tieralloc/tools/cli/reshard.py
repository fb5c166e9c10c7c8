"""``tieralloc reshard``."""

from __future__ import annotations

import argparse

from tieralloc._common.progress import bar
from tieralloc.tools.cli import arguments as types
from tieralloc.tools.cli import common, options
from tieralloc.tools.reshard import planned_shards, reshard

DESCRIPTION = """\
Write the table files of all ranks of a group, which no store has open, as those of another number
of ranks. Each needs its record of shards beside it. The rows of a table are cut evenly, or, with a
trace, so that the ranks read equally often. Copies rows byte for byte, some MiB at a time."""
EXAMPLES = """\
tieralloc reshard old0.tier old1.tier --ranks 3 --out 'new{rank}.tier'
tieralloc reshard old*.tier --ranks 4 --out 'new{rank}.tier' --trace day.npz --fast-bytes 1GiB"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="the files of all ranks")
    text = "ranks of the new group"
    parser.add_argument("--ranks", type=types.count, required=True, metavar="N", help=text)
    text = "files of the new ranks; {rank} is the rank"
    parser.add_argument("--out", required=True, metavar="PATTERN", help=text)
    options.add(parser, "--trace", str, "T", "plan the shards by the reads of this trace")
    text = "with a trace: DRAM of each new rank"
    options.add(parser, "--fast-bytes", types.size, "SIZE", text)
    options.add_force(parser)


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    if "{rank}" not in arguments.out:
        raise ValueError(f"--out: expected {{rank}} in the pattern, got {arguments.out!r}")
    if (arguments.trace is None) != (arguments.fast_bytes is None):
        raise ValueError("--fast-bytes: expected together with --trace, got one of them")
    outs = [arguments.out.replace("{rank}", str(rank)) for rank in range(arguments.ranks)]
    for out in outs:
        common.check_new(out, arguments.force)
    plan = None
    if arguments.trace is not None:
        trace = common.read_trace(arguments.trace)
        plan = planned_shards(arguments.files, trace, arguments.ranks, arguments.fast_bytes)
        print(plan)
    shards = None if plan is None else plan.shards
    for out, record in zip(outs, reshard(arguments.files, outs, shards, progress=bar), strict=True):
        print(f"{out}: {record.describe()}")
