"""``tieralloc doctor``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tieralloc.tools import doctor
from tieralloc.tools.disk import default_directory

DESCRIPTION = """\
Check processor, memory, NUMA nodes, huge pages, io_uring, limits and the disk, and print a next
step for each failed check. Changes nothing."""
EXAMPLES = """\
tieralloc doctor
tieralloc doctor /mnt/nvme --json"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "directory",
        nargs="?",
        metavar="DIR",
        help="directory of the disk to check (default: the directory of replay's file)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    directory = Path(arguments.directory) if arguments.directory else default_directory()
    checks = doctor.examine(directory)
    if arguments.json:
        print(json.dumps([check._asdict() for check in checks], indent=2))
    else:
        print(doctor.to_text(checks))
