"""``tieralloc upgrade``."""

from __future__ import annotations

import argparse

from tieralloc._common.progress import bar
from tieralloc.tools.check import upgrade

DESCRIPTION = """\
Convert a table file of format version 1 to version 2, whose pages have checksums. Needs disk space
for both files; the new one takes the place of the old one at the end."""
EXAMPLES = "tieralloc upgrade emb.tier"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("file", help="table file of a store that is not open")


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    if upgrade(arguments.file, bar):
        print(f"{arguments.file}: converted to format version 2")
    else:
        print(f"{arguments.file}: has format version 2 already")
