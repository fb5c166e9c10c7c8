"""Functions that the subcommands share: read a trace, check output files, write results."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

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
    """Read a trace, with a progress message."""
    with waiting(f"reading {path}"):
        return trace.read(path)


def warn_of_seen_accesses(
    policies: Iterable[str | TrainedPolicy], replayed: Trace, count_from: float
) -> None:
    """Warn of policies whose training accesses include counted ones."""
    accesses = replayed.accesses()
    first = first_counted(len(accesses), count_from)
    for policy in policies:
        if not isinstance(policy, str) and policy.directory.has_seen(accesses, first):
            warn(
                f"{policy.name}: its training accesses include counted accesses; raise --count-from"
                " to measure accesses that it has not seen"
            )


def working_directory(directory: str | None) -> Path:
    """Return the directory of the slow tier's file; raise OSError if it is not writable."""
    path = default_directory() if directory is None else Path(directory)
    check_writable(path / "slow.tier")
    file_system = file_system_of(path)
    if file_system.in_memory:
        warn(
            f"{path}: on {file_system.kind}, which is DRAM; on-demand fetches read no disk; use"
            " --dir to choose a directory on a disk"
        )
    return path


def check_outputs(arguments: argparse.Namespace) -> None:
    """Raise OSError for output files that cannot be written, before any work."""
    if arguments.json not in (None, "-"):
        check_new(arguments.json, arguments.force)
    if arguments.plot is not None:
        check_plot_output(arguments.plot, arguments.force)


def check_plot_output(path: str, force: bool) -> None:
    """Raise an error for a plot that cannot be drawn or written."""
    from tieralloc.tools.plots.records import check_plot

    check_plot(path)
    check_new(path, force)


def check_new(path: str, force: bool) -> None:
    """Raise OSError for an output that cannot be written, or exists, unless `force`."""
    check_writable(path)
    if not force and os.path.isfile(path):
        raise FileExistsError(errno.EEXIST, "exists already; use --force to replace it", path)


def write_outputs(
    records: Sequence[Record] | Record,
    text: str,
    arguments: argparse.Namespace,
    draw: Callable[[Any, str], None] | None = None,
) -> None:
    """Print the text, or the record or records with ``--json -``; write the requested files.

    `draw` draws the plot; by default `tieralloc.tools.plots.records.plot`.
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


def _draw(records: Any, path: str) -> None:
    from tieralloc.tools.plots.records import plot

    plot(records, path)


def warn(message: str) -> None:
    """Print a warning to stderr."""
    print(f"tieralloc: warning: {message}", file=sys.stderr)


def say_written(path: str) -> None:
    """Print the name of a written file to stderr."""
    print(f"wrote {path}", file=sys.stderr)
