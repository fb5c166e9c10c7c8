"""``tieralloc report``."""

from __future__ import annotations

import argparse

from tieralloc._common.files import naming
from tieralloc._common.progress import waiting
from tieralloc.tools.cli import common

DESCRIPTION = """\
Make one HTML page of a result file: its tables and plots, to be read on a desk or a phone. The
page loads nothing. Takes what simulate and replay write with --json. Needs matplotlib."""
EXAMPLES = """\
tieralloc report counts.json --out page"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("results", metavar="RESULTS.json", help="the result file")
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="directory of the page, index.html"
    )


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    from tieralloc.tools.page import write_page

    with waiting("drawing"), naming(arguments.out):
        page = write_page(arguments.results, arguments.out)
    common.say_written(str(page))
