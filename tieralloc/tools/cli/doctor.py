"""``tieralloc doctor``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tieralloc._common.progress import waiting
from tieralloc.tools import doctor
from tieralloc.tools.cli import arguments as types
from tieralloc.tools.cli import options
from tieralloc.tools.disk import default_directory

DESCRIPTION = """\
Check processor, memory, NUMA nodes, huge pages, io_uring, limits and the disk, measure the reads of
a store there, and print a next step for each failed check. With --rows, propose a budget for a
table. Changes nothing."""
EXAMPLES = """\
tieralloc doctor
tieralloc doctor --rows 1e8 --embedding-dim 64
tieralloc doctor /mnt/nvme --json"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "directory",
        nargs="?",
        metavar="DIR",
        help="directory of the disk to check (default: the directory of replay's file)",
    )
    text = "propose a budget for a float32 table of N rows, such as 1e8"
    options.add(parser, "--rows", types.count, "N", text)
    text = "elements per row of the table of --rows (default: 64)"
    options.add(parser, "--embedding-dim", types.count, "N", text)
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    directory = Path(arguments.directory) if arguments.directory else default_directory()
    if arguments.embedding_dim is not None and arguments.rows is None:
        raise ValueError("--embedding-dim: no effect without --rows; expected --rows N")
    with waiting("measuring"):
        checks = doctor.examine(directory, arguments.rows, arguments.embedding_dim or 64)
    if arguments.json:
        print(json.dumps([check._asdict() for check in checks], indent=2))
    else:
        print(doctor.to_text(checks))
