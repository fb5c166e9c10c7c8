"""What the subcommands share: reading a trace, checking output files, writing results."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tieralloc import trace
from tieralloc._common.files import check_writable
from tieralloc._common.progress import waiting
from tieralloc.policy.trained import TrainedPolicy
from tieralloc.tools import report
from tieralloc.tools.disk import default_directory, file_system_of
from tieralloc.tools.report import Record
from tieralloc.trace import Trace
from tieralloc.trace.stream import first_counted


def read_trace(path: str) -> Trace:
    """Read a trace, with a sign of life."""
    with waiting(f"reading {path}"):
        return trace.read(path)


def warn_of_seen_accesses(
    policies: Iterable[str | TrainedPolicy], replayed: Trace, count_from: float
) -> None:
    """Warn of policies that were trained on accesses that are counted."""
    accesses = replayed.accesses()
    first = first_counted(len(accesses), count_from)
    for policy in policies:
        if not isinstance(policy, str) and policy.directory.has_seen(accesses, first):
            warn(
                f"{policy.name} was trained on accesses that are counted here: its results say"
                " nothing about new accesses"
            )


def working_directory(directory: str | None) -> Path:
    """Return the directory for the slow tier's file, once it is known to be writable."""
    chosen = default_directory() if directory is None else Path(directory)
    check_writable(chosen / "slow.tier")
    file_system = file_system_of(chosen)
    if file_system.in_memory:
        warn(
            f"{chosen} is on {file_system.kind}, which is DRAM: nothing here is fetched from a"
            " disk; --dir puts the slow tier elsewhere"
        )
    return chosen


def check_outputs(arguments: argparse.Namespace) -> None:
    """Refuse output files that cannot be written, before any work."""
    if arguments.json not in (None, "-"):
        check_writable(arguments.json)
    if arguments.plot is not None:
        check_plot_output(arguments.plot)


def check_plot_output(path: str) -> None:
    """Refuse a plot that cannot be drawn or written."""
    from tieralloc.tools.plots.records import check_plot

    check_plot(path)
    check_writable(path)


def write_outputs(
    records: Sequence[Record],
    text: str,
    arguments: argparse.Namespace,
    draw: Callable[[Sequence[Record], str], None] | None = None,
) -> None:
    """Print the text, or the records with ``--json -``; write the files that were asked for.

    Parameters
    ----------
    records : sequence of dict
        What goes into the JSON file and the plot.
    text : str
        What is printed.
    arguments : argparse.Namespace
        Has json and plot.
    draw : callable, optional
        Draws the plot; without it `tieralloc.tools.plots.records.plot` does.
    """
    if arguments.json == "-":
        sys.stdout.write(report.to_json(records))
    else:
        print(text)
    sys.stdout.flush()
    if arguments.json not in (None, "-"):
        report.write_json(records, arguments.json)
        say_written(arguments.json)
    if arguments.plot is not None:
        with waiting("drawing"):
            (draw or _draw)(records, arguments.plot)
        say_written(arguments.plot)


def _draw(records: Sequence[Record], path: str) -> None:
    from tieralloc.tools.plots.records import plot

    plot(records, path)


def warn(message: str) -> None:
    """Print a warning to stderr."""
    print(f"tieralloc: warning: {message}", file=sys.stderr)


def say_written(path: str) -> None:
    """Name a file that was written, on stderr."""
    print(f"wrote {path}", file=sys.stderr)
