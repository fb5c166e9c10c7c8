"""``tieralloc delta``."""

from __future__ import annotations

import argparse

from tieralloc._common.progress import bar
from tieralloc.tools.cli import arguments as types
from tieralloc.tools.cli import common, options
from tieralloc.tools.delta import make_delta

DESCRIPTION = """\
Write the rows that differ between two checkpoints, each a table file, .npz or .safetensors, for
TieredStore.apply: rows with new values, and rows that became zeros, which are deleted. Reads both
in order, some MiB at a time. A store applies the delta if it is at the version that the delta
follows, as a whole, while it serves."""
EXAMPLES = """\
tieralloc delta monday.safetensors tuesday.safetensors --out 2.delta --follows 1 --version 2
tieralloc delta emb.tier tuesday.npz --out 2.delta"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("old", metavar="OLD", help="checkpoint that the delta starts from")
    parser.add_argument("new", metavar="NEW", help="checkpoint that it leads to")
    parser.add_argument("--out", required=True, metavar="FILE", help="output file")
    text = "version of the store before (default: that of a table file OLD, or 0)"
    options.add(parser, "--follows", types.whole, "N", text)
    text = "version of the store afterwards (default: that of a table file NEW, or one more)"
    options.add(parser, "--version", types.count, "N", text)
    options.add_force(parser)


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    common.check_new(arguments.out, arguments.force)
    made = make_delta(
        arguments.old,
        arguments.new,
        arguments.out,
        version=arguments.version,
        follows=arguments.follows,
        progress=bar,
    )
    print(
        f"{arguments.out}: from version {made.follows} to {made.version}: {made.changed:,} rows "
        f"changed, {made.deleted:,} deleted"
    )
