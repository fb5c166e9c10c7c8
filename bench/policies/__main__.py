"""The command: `python -m bench.policies` trains, replays, prints the tables and writes them."""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tqdm import tqdm

from bench.policies import foreign, plot, results, tables
from bench.policies.contenders import CONTENDERS, LABELS, LRU, Contender, Foreign, Learned
from bench.policies.evaluation import Record, Task, jobs_for
from bench.policies.jobs import Done, Job, State, run_jobs
from tieralloc import trace
from tieralloc._common.files import replacing
from tieralloc.tools.machine import core_count
from tieralloc.tools.report import percent

_ROOT = Path(__file__).parents[2]
#: Beside the checkout: real traces are no part of the project.
TRACES = _ROOT.parent / "shared" / "traces"
RESULTS = _ROOT / "bench" / "results"
MODELS = _ROOT / "build" / "policies"
NAME = "policies"

FAST_FRACTIONS = (0.01, 0.05, 0.1, 0.2)


@dataclass(frozen=True)
class _Size:
    """How large a run is where nothing is given."""

    num_samples: int  # of the trace that is generated
    fast_fractions: tuple[float, ...]
    epochs: int | None


FULL = _Size(32768, FAST_FRACTIONS, None)
#: A run that shows that everything works; its figures mean nothing.
QUICK = _Size(1000, (0.05, 0.2), 1)


def main(arguments: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = _parser()
    options = parser.parse_args(given)
    size = QUICK if options.quick else FULL
    if options.traces is not None and not traces_in(options.traces):
        parser.error(f"there is no trace in {options.traces}")
    out = options.out if options.out or options.quick else RESULTS
    with tempfile.TemporaryDirectory(prefix="tieralloc-policies-") as temporary:
        paths = [] if options.quick else traces_in(options.traces or TRACES)
        if not paths:
            paths = [_generate(Path(temporary), size, options.quick)]
        models = options.models or (Path(temporary) / "models" if options.quick else MODELS)
        tasks = [
            Task(path, size.fast_fractions, models, size.epochs, options.reuse) for path in paths
        ]
        chosen = [contender for contender in CONTENDERS if contender.label in options.only]
        refused = _refused(chosen)
        able = [contender for contender in chosen if contender.label not in refused]
        jobs = [job for task in tasks for job in jobs_for(task, able, options.seeds)]
        measured = _measure(jobs, options.jobs, refused)
    kept = results.read_json(out / f"{NAME}.json") if out and set(options.only) < {*LABELS} else []
    records = results.merge(kept, measured)
    traces = results.by_trace(records)
    if traces:
        picture = None if out is None else _draw(traces, out)
        text = tables.markdown(traces, _notes(records, given), refused, picture)
        print(f"\n{text}")
        if out is not None:
            _write(records, text, out)
    return _verdict(traces, refused)


def traces_in(place: Path) -> list[Path]:
    """Find what goes by the name of a trace in a directory; or take the file that is given."""
    if place.is_file():
        return [place]
    suffixes = tuple(suffix for format in trace.FORMATS.values() for suffix in format.suffixes)
    return sorted(path for path in place.glob("*") if path.name.lower().endswith(suffixes))


def _generate(directory: Path, size: _Size, quick: bool) -> Path:
    if quick:
        print("A quick run: it shows that everything works, its figures mean nothing.")
    else:
        print(f"No traces in {TRACES} (--traces says where they are): one is generated.")
    path = directory / "generated.npz"
    trace.write(trace.generate(num_samples=size.num_samples), path)
    return path


def _refused(chosen: Sequence[Contender]) -> dict[str, str]:
    """Say who cannot be measured here, and why."""
    missing = foreign.refusal()
    refused = {}
    for contender in chosen:
        if isinstance(contender, Foreign) and missing is not None:
            refused[contender.label] = missing
        if isinstance(contender, Learned) and find_spec("torch") is None:
            refused[contender.label] = "torch is not installed: pip install 'tieralloc[torch]'"
    return refused


def _measure(jobs: Sequence[Job], processes: int, refused: dict[str, str]) -> list[Record]:
    """Do the jobs, say what each came to; what failed is noted among what was refused."""
    records: list[Record] = []
    states: dict[str, str] = {}
    with tqdm(total=len(jobs), desc="jobs", leave=False, disable=None, dynamic_ncols=True) as bar:
        for job, event in run_jobs(jobs, processes):
            if isinstance(event, State):
                states[job.name] = event.words
                bar.set_postfix_str("; ".join(f"{name}: {states[name]}" for name in states))
                continue
            states.pop(job.name, None)
            bar.update()
            if isinstance(event, Done):
                records += event.result
                bar.write(_outcome(event.result))
            else:
                refused[job.name] = event.reason
                bar.write(f"{job.name} FAILED: {event.reason}")
            sys.stdout.flush()
    return records


def _outcome(found: Sequence[Record]) -> str:
    """A line for each policy that a job measured."""
    lines = []
    for policy in dict.fromkeys(record["policy"] for record in found):
        own = [record for record in found if record["policy"] == policy]
        cells = (
            f"{record['miss_ratio']:.4f} at {percent(record['fast_fraction'])}" for record in own
        )
        trained = own[0]["training_cpu_seconds"]
        cost = "" if trained is None else f"; trained in {trained:.0f} s of CPU"
        lines.append(f"{own[0]['trace']}, {policy}: {', '.join(cells)}{cost}")
    return "\n".join(lines)


def _notes(records: Sequence[Record], given: Sequence[str]) -> list[str]:
    seeds = sorted({record["seed"] for record in records if record["seed"] is not None})
    named = ", ".join(map(str, seeds))
    machines = dict.fromkeys(record["machine"] for record in records)
    packages = (package for record in records for package in record["measured_by"].split(", "))
    command = shlex.join(["python", "-m", "bench.policies", *_public(given)])
    notes = [
        f"- Command, last: `{command}`",
        f"- Machine: {'; '.join(machines)}",
        f"- Measured by: {', '.join(dict.fromkeys(packages))}",
    ]
    if len(seeds) > 1:
        notes.append(f"- Seeds of training: {named}; the median, and the range in brackets")
    elif seeds:
        notes.append(f"- Seed of training: {named}")
    return notes


def _public(given: Sequence[str]) -> list[str]:
    """The arguments without the directories of this machine."""
    return [Path(each).name if Path(each).is_absolute() else each for each in given]


def _draw(traces: Sequence[results.Results], out: Path) -> str | None:
    """Return the name of the plot; None where there is no matplotlib."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{NAME}.png"
    try:
        plot.write(traces, path)
    except ImportError as error:
        print(f"No plot was drawn: {error}")
        return None
    return path.name


def _write(records: Sequence[Record], text: str, out: Path) -> None:
    results.write_json(records, out / f"{NAME}.json")
    with replacing(out / f"{NAME}.md") as file:
        file.write(text.encode())
    print(f"written to {out}: {NAME}.md, .json, .png")


def _verdict(traces: Sequence[results.Results], refused: dict[str, str]) -> int:
    """Return 1 where what was counted cannot be trusted."""
    wrong = [each.trace for each in traces if any((each.differences(LRU) or {}).values())]
    for name in wrong:
        print(f"{name}: LRU does not miss what libcachesim's LRU misses", file=sys.stderr)
    failed = [name for name in refused if name not in LABELS]
    for name in failed:
        print(f"failed: {name}: {refused[name]}", file=sys.stderr)
    return 1 if wrong or failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.policies", description=__doc__)
    parser.add_argument(
        "--traces",
        type=Path,
        metavar="DIR",
        help=f"traces of any format, or one file (default: {TRACES}, else one is generated)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where tables, records and plot go (bench/results)"
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=LABELS,
        default=LABELS,
        metavar="POLICY",
        help="measure these, and keep the others as they are in the results: " + ", ".join(LABELS),
    )
    parser.add_argument(
        "--seeds", type=_positive, default=1, metavar="N", help="trainings of each policy"
    )
    parser.add_argument("--quick", action="store_true", help="small and short: a smoke test")
    parser.add_argument(
        "--models",
        type=Path,
        metavar="DIR",
        help="where policies are trained into (build/policies)",
    )
    parser.add_argument(
        "--reuse",
        action="store_true",
        help="take policies trained there before as they are, and go on where a training was"
        " interrupted; without it all is trained anew",
    )
    parser.add_argument(
        "--jobs",
        type=_positive,
        default=core_count(),
        metavar="N",
        help="processes at a time (%(default)s)",
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
