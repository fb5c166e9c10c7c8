"""The command: `python -m bench.paper` trains, tunes, compares, and writes docs/results.md."""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from bench.paper import page, tuning_page
from bench.paper.work import Record, Task, compare_at, name_of, train
from bench.policies.__main__ import FAST_FRACTIONS, TRACES, traces_in
from bench.policies.jobs import Done, Failed, Job, State, run_jobs
from tieralloc import trace
from tieralloc._common.files import replacing
from tieralloc.tools import machine as _machine
from tieralloc.tools.machine import core_count
from tieralloc.tools.plots.comparison import plot_comparison
from tieralloc.tools.report import to_json

_ROOT = Path(__file__).parents[2]
DOCS = _ROOT / "docs"
RESULTS = _ROOT / "bench" / "results"
MODELS = _ROOT / "build" / "paper"

#: Accesses that a fetch takes, and the capacity at which that is measured.
LAG, LAG_FRACTION = 16, 0.05


@dataclass(frozen=True)
class _Size:
    """How large a run is."""

    num_samples: int | None  # of the trace that is generated; None: as it is by default
    fast_fractions: tuple[float, ...]
    epochs: int | None
    tuned: bool


FULL = _Size(None, FAST_FRACTIONS, None, True)
#: A run that shows that everything works; its figures mean nothing.
QUICK = _Size(600, (0.05, 0.2), 1, False)


@dataclass
class _Measured:
    records: list[Record] = field(default_factory=list)
    tried: list[Record] = field(default_factory=list)
    seconds: dict[str, Mapping[str, float]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(given)
    size = QUICK if options.quick else FULL
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tieralloc-paper-") as temporary:
        scratch = Path(temporary)
        models = options.models or (scratch / "models" if options.quick else MODELS)
        paths = [] if options.quick else traces_in(options.traces)
        if not paths and not options.quick:
            print(f"No traces in {options.traces} (--traces says where they are).")
        paths.append(_generated(scratch, size))
        tasks = [Task(p, size.fast_fractions, models, size.epochs, size.tuned) for p in paths]
        measured = _measure(tasks, options.jobs)
    if measured.failed:
        for name, reason in measured.failed.items():
            print(f"failed: {name}: {reason}", file=sys.stderr)
        return 1
    minutes = (time.monotonic() - began) / 60
    out = options.out or (None if options.quick else _ROOT)
    text = _page(measured, given, minutes, {})
    if out is None:
        print(f"\n{text}")
        return 0
    pictures = _draw(measured.records, out / "docs")
    _write(measured, _page(measured, given, minutes, pictures), out)
    return 0


def _generated(directory: Path, size: _Size) -> Path:
    """Write a trace in Meta's shape."""
    path = directory / "generated.npz"
    options = {} if size.num_samples is None else {"num_samples": size.num_samples}
    trace.write(trace.generate(name="generated", **options), path)
    return path


def _measure(tasks: Sequence[Task], processes: int) -> _Measured:
    """Train on each trace, then compare at each capacity; say how it goes."""
    measured = _Measured()
    trainings = [Job(f"training on {task.path.stem}", train, (task,)) for task in tasks]
    comparisons = [
        Job(name_of(task.path, runs), compare_at, (task, runs))
        for task in tasks
        for runs in _split(task.fast_fractions)
    ]
    for jobs in (trainings, comparisons):
        if measured.failed:
            break
        _do(jobs, processes, measured)
    return measured


def _split(fractions: Sequence[float]) -> list[list[tuple[float, int]]]:
    """Share out capacities, and a lag, in two jobs, each of which asks the models anew."""
    half = len(fractions) // 2
    runs = [(fraction, 0) for fraction in fractions]
    return [[*runs[:half], (LAG_FRACTION, LAG)], runs[half:]]


def _do(jobs: Sequence[Job], processes: int, measured: _Measured) -> None:
    states: dict[str, str] = {}
    results = {}
    with tqdm(total=len(jobs), desc="jobs", leave=False, disable=None, dynamic_ncols=True) as bar:
        for job, event in run_jobs(jobs, processes):
            if isinstance(event, State):
                states[job.name] = event.words
                bar.set_postfix_str("; ".join(f"{name}: {states[name]}" for name in states))
                continue
            states.pop(job.name, None)
            bar.update()
            bar.write(f"{time.strftime('%H:%M:%S')} {job.name}: {_outcome(event)}")
            sys.stdout.flush()
            if isinstance(event, Failed):
                measured.failed[job.name] = event.reason
            else:
                results[job.name] = event.result
    for job in jobs:  # in their order, whichever ended first
        found = results.get(job.name)
        if found is None:
            continue
        if job.work is train:
            measured.seconds[job.arguments[0].path.stem] = found
        else:
            measured.records += found.records
            measured.tried += found.tried


def _outcome(event: Done | Failed) -> str:
    if isinstance(event, Failed):
        return f"FAILED: {event.reason}"
    if isinstance(event.result, dict):
        return ", ".join(f"{name} in {each:.0f} s of CPU" for name, each in event.result.items())
    return ", ".join(f"{r['policy']} {r['miss_ratio']:.4f}" for r in event.result.records)


def _page(
    measured: _Measured, given: Sequence[str], minutes: float, pictures: Mapping[str, str]
) -> str:
    command = shlex.join(["python", "-m", "bench.paper", *_public(given)])
    notes = [
        f"- Command: `make paper` (`{command}`), {minutes:.0f} minutes",
        f"- Machine: {_machine.describe()}",
        f"- Measured by: {measured.records[0]['measured_by']}",
    ]
    return page.markdown(measured.records, notes, measured.seconds, pictures)


def _public(given: Sequence[str]) -> list[str]:
    """The arguments without the directories of this machine."""
    return [Path(each).name if Path(each).is_absolute() else each for each in given]


def _draw(records: Sequence[Record], docs: Path) -> dict[str, str]:
    """Draw a picture for each trace, where matplotlib is; return their names."""
    docs.mkdir(parents=True, exist_ok=True)
    pictures = {}
    for name in dict.fromkeys(record["trace"] for record in records):
        own = [r for r in records if r["trace"] == name and r["prefetch_lag"] == 0]
        path = docs / f"results-{name}.png"
        try:
            plot_comparison(own, path)
        except ImportError as error:
            print(f"No plot was drawn: {error}")
            return {}
        pictures[name] = path.name
    return pictures


def _write(measured: _Measured, text: str, out: Path) -> None:
    results = out / "bench" / "results"
    results.mkdir(parents=True, exist_ok=True)
    files = {
        out / "docs" / "results.md": text,
        results / "paper.json": to_json(measured.records),
    }
    if measured.tried:
        files[results / "paper-tuning.md"] = tuning_page.markdown(measured.tried)
        files[results / "paper-tuning.json"] = tuning_page.to_json(measured.tried)
    for path, content in files.items():
        with replacing(path) as file:
            file.write(content.encode())
        print(f"wrote {path}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.paper", description=__doc__)
    parser.add_argument(
        "--traces",
        type=Path,
        default=TRACES,
        metavar="DIR",
        help="traces of any format, or one file; a generated one comes besides (%(default)s)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where docs/ and bench/results/ are (the checkout)"
    )
    parser.add_argument(
        "--models",
        type=Path,
        metavar="DIR",
        help="where models are trained into; those there already are taken as they are"
        " (build/paper)",
    )
    parser.add_argument("--quick", action="store_true", help="small and short: a smoke test")
    parser.add_argument(
        "--jobs",
        type=int,
        choices=range(1, 65),
        default=core_count(),
        metavar="N",
        help="processes at a time (%(default)s)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
