"""A study of what `make policies` trained: replays on each trace, and a table of what came of them.

It takes the policies in ``build/policies`` (seed 0), and writes ``NAME.md`` beside its results.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.policies.__main__ import MODELS, RESULTS, TRACES, traces_in
from bench.policies.jobs import Done, Failed, Job, run_jobs
from tieralloc import trace

#: From a trace and where recmg was trained on it to what is to be done.
JobsFor = Callable[[Path, Path], Sequence[Job]]

#: From the names of traces, and what each job returned by its name, to a table.
Table = Callable[[Sequence[str], Mapping[str, Any]], str]


def run(
    name: str,
    about: str | None,
    jobs_for: JobsFor,
    table: Table,
    arguments: Sequence[str] | None,
    processes: int = 2,
) -> int:
    """Run the command of a study; return its exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m bench.policies.{name}", description=about)
    parser.add_argument("--traces", type=Path, default=TRACES, help="a directory, or a file")
    parser.add_argument("--models", type=Path, default=MODELS, help="where `make policies` trained")
    parser.add_argument("--out", type=Path, default=RESULTS, help=f"where {name}.md goes")
    parser.add_argument("--jobs", type=int, default=processes, help="processes at a time")
    options = parser.parse_args(arguments)
    trained = {path: _trained(options.models, path) for path in traces_in(options.traces)}
    found_in = {path: directory for path, directory in trained.items() if directory is not None}
    if not found_in:
        print(f"no policy in {options.models} for a trace of {options.traces}: make policies")
        return 1
    jobs = [job for path, directory in found_in.items() for job in jobs_for(path, directory)]
    found: dict[str, Any] = {}
    for job, event in run_jobs(jobs, options.jobs):
        if isinstance(event, Failed):
            print(f"{job.name} FAILED: {event.reason}")
            return 1
        if isinstance(event, Done):
            found[job.name] = event.result
            print(f"{job.name}: done, {len(found)} of {len(jobs)}")
            sys.stdout.flush()
    text = table([path.stem for path in found_in], found)
    (options.out / f"{name}.md").write_text(text)
    print(f"\n{text}")
    return 0


def line(cells: Sequence[str]) -> str:
    """Lay out a line of a table."""
    return "| " + " | ".join(cells) + " |"


def _trained(models: Path, path: Path) -> Path | None:
    """Find where recmg was trained on a trace, with seed 0, if it was."""
    name = trace.read(path).name
    found = sorted(models.glob(f"{name}-*/recmg-seed0/manifest.json"))
    return found[-1].parent if found else None
