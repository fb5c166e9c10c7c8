"""``tieralloc doctor``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tieralloc.tools import doctor
from tieralloc.tools.disk import default_directory

DESCRIPTION = """\
Examine processor, memory, nodes, huge pages, io_uring, limits and the disk, and say what to do
where something is missing. Changes nothing."""
EXAMPLES = """\
tieralloc doctor
tieralloc doctor /mnt/nvme --json"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "directory",
        nargs="?",
        metavar="DIR",
        help="directory whose disk is examined (default: that of replay's file)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    directory = Path(arguments.directory) if arguments.directory else default_directory()
    findings = doctor.examine(directory)
    if arguments.json:
        print(json.dumps([finding._asdict() for finding in findings], indent=2))
    else:
        print(doctor.to_text(findings))
