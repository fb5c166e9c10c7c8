"""The command: `python -m bench.policies` trains, replays, prints tables and keeps records."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

from bench.policies import libcachesim_caches, tables
from bench.policies.compared import LABELS, LEARNED, LIBCACHESIM
from bench.policies.measure import Record, Setting, jobs_for, slim
from bench.scenery.about import about
from bench.scenery.arguments import make_parser, out_directory, public_command, read_result
from bench.scenery.processes import ChildFailedError, Job, run_jobs
from bench.scenery.results import read_json, rounded, write_json
from bench.scenery.traces import FAST_FRACTIONS, choose_traces
from tieralloc.tools.machine import core_count
from tieralloc.tools.report import percent

NAME = "policies"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code, 1 if a count is unreliable."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(given)
    if options.show:
        print(tables.page(read_result(options, NAME)["records"]))
        return 0
    missing = _missing(options.only)
    with tempfile.TemporaryDirectory(prefix="tieralloc-policies-") as temporary:
        scratch = Path(temporary)
        setting = Setting(FAST_FRACTIONS, options.models, None, options.seed, options.reuse)
        if options.quick:
            setting = Setting((0.05, 0.2), scratch / "models", 1, options.seed, False)
        samples = 1000 if options.quick else 32768
        paths = choose_traces(options.traces, scratch, quick=options.quick, num_samples=samples)
        labels = {*options.only} - missing.keys()
        jobs = [job for path in paths for job in jobs_for(path, labels, setting)]
        measured, failed = _measure(jobs, options.jobs)
    head = about(public_command(NAME, given))
    records = rounded([{**slim(record), "commit": head["commit"]} for record in measured])
    out = out_directory(options)
    if out is not None:
        path = out / f"{NAME}.json"
        records = merge(_kept(path, head["machine"]), records)
        write_json(path, {**head, "records": records})
        print(f"written: {path}")
    print(tables.page(records))
    for name, reason in {**missing, **failed}.items():
        print(f"not measured: {name}: {reason}", file=sys.stderr)
    differing = tables.differences(records)
    for line in differing:
        print(line, file=sys.stderr)
    return 1 if failed or differing else 0


def _missing(labels: Iterable[str]) -> dict[str, str]:
    """Return the policies that cannot be measured here, and why."""
    reasons = {}
    if (refusal := libcachesim_caches.refusal()) is not None:
        reasons |= dict.fromkeys(LIBCACHESIM, refusal)
    if find_spec("torch") is None:
        reasons |= dict.fromkeys(LEARNED, "torch is not installed: pip install 'tieralloc[torch]'")
    return {label: reasons[label] for label in labels if label in reasons}


def _measure(jobs: Sequence[Job], processes: int) -> tuple[list[Record], dict[str, str]]:
    """Run the jobs; return the records, and the reasons of failed jobs by name."""
    records: list[Record] = []
    failed = {}
    for job, result in run_jobs(jobs, processes):
        if isinstance(result, ChildFailedError):
            failed[job.name] = str(result)
            continue
        records += result
        for record in result:
            place = f"{record['trace']} at {percent(record['fast_fraction'])}"
            print(f"{record['policy']}, {place}: {record['miss_ratio']:.4f}", flush=True)
    return records, failed


def _kept(path: Path, machine: str) -> list[Record]:
    """Read the records that a run does not replace."""
    content = read_json(path)
    if content is None or content["machine"] == machine:
        return [] if content is None else content["records"]
    print(f"{path} is of another machine: its records are dropped")
    return []


def merge(kept: Iterable[Record], measured: Sequence[Record]) -> list[Record]:
    """Replace the records of policies measured again; sort all in the order of the tables.

    A trace measured again that has changed, or has other capacities, keeps no record.
    """
    again = {(record["trace"], record["policy"]) for record in measured}
    sizes = {(r["trace"], r["fast_fraction"]): (r["fast_rows"], r["lookups"]) for r in measured}
    traces = {record["trace"] for record in measured}

    def stays(record: Record) -> bool:
        if record["policy"] not in LABELS or (record["trace"], record["policy"]) in again:
            return False
        size = sizes.get((record["trace"], record["fast_fraction"]))
        return record["trace"] not in traces or size == (record["fast_rows"], record["lookups"])

    return sorted(
        [*filter(stays, kept), *measured],
        key=lambda r: (r["trace"], LABELS.index(r["policy"]), r["fast_fraction"]),
    )


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(NAME, __doc__, only=LABELS, jobs=core_count())
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the trainings")
    parser.add_argument(
        "--reuse",
        action="store_true",
        help="take policies trained with these settings, and finish interrupted trainings",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
