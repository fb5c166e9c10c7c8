"""``tieralloc demo``."""

from __future__ import annotations

import argparse

from tieralloc.tools.cli import common, options

DESCRIPTION = """\
Generate a trace, train recmg on its first half, simulate the policies on the second half, serve it
from a real file and a small pool of DRAM, verify the vectors, print tables and draw a plot.
Takes one to two minutes on two cores, 40 s of CPU time. Temporary files are removed."""
EXAMPLES = """\
tieralloc demo
tieralloc demo --dir /mnt/nvme --plot /tmp/demo.png"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    options.add_directory(parser)
    options.add(parser, "--plot", str, "F", "file of the plot (default: tieralloc-demo.png)")
    options.add_force(parser)


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    from tieralloc.tools import demo

    directory = common.working_directory(arguments.dir)
    if arguments.plot is not None:
        common.check_plot_output(arguments.plot, arguments.force)
    demo.run(directory, arguments.plot, force=arguments.force)
