"""Measures contenders on a trace: trains what learns, replays all of it, counts the second half."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tieralloc.policies.registry import trainer

import tieralloc
from bench.machine import version_of
from bench.policies import foreign
from bench.policies.contenders import CONTENDERS, Contender, Foreign, Learned, Simple
from bench.policies.jobs import Job, Tell
from tieralloc import trace
from tieralloc._common.progress import Narrate, Narration
from tieralloc.policy.directory import fingerprint
from tieralloc.tools import machine as _machine
from tieralloc.tools.report import percent
from tieralloc.tools.simulate import count_record, simulate
from tieralloc.trace.stream import count_distinct, fast_rows, first_counted

if TYPE_CHECKING:
    from tieralloc.policy.trained import TrainedPolicy
    from tieralloc.trace import Trace

Record = dict[str, Any]

#: The share of a trace that is learned from and warms the fast tier; the rest is counted.
COUNT_FROM = 0.5


@dataclass(frozen=True)
class Task:
    """What to measure on.

    Parameters
    ----------
    path : path
        Of the trace.
    fast_fractions : sequence of float
        Capacities, as fractions of the trace's distinct rows.
    models : path
        Where policies are trained into.
    epochs : int or None
        Most epochs of training; None: as many as `tieralloc train` does.
    reuse : bool
        Whether to take what was trained there before, with the same settings, as it is, and to
        finish what was interrupted.
    """

    path: Path
    fast_fractions: tuple[float, ...]
    models: Path
    epochs: int | None
    reuse: bool


def jobs_for(task: Task, contenders: Sequence[Contender], seeds: int) -> list[Job]:
    """Split the measuring of a trace, what takes longest first; contenders are not refused."""
    trace_name = task.path.name.partition(".")[0]
    jobs = []
    for seed in range(seeds):
        for trained in dict.fromkeys(c.trained for c in contenders if isinstance(c, Learned)):
            alike = [c.label for c in contenders if isinstance(c, Learned) and c.trained == trained]
            of_seed = f", seed {seed}" if seeds > 1 else ""
            name = f"{' and '.join(alike)} on {trace_name}{of_seed}"
            jobs.append(Job(name, measure_learned, (task, trained, tuple(alike), seed)))
    kinds = [c for c in contenders if isinstance(c, Foreign)]
    for contender in sorted(kinds, key=lambda c: c.label != "LRB"):
        name = f"{contender.label} on {trace_name}"
        jobs.append(Job(name, measure_foreign, (task, contender)))
    simple = tuple(c.label for c in contenders if isinstance(c, Simple))
    if simple:
        jobs.append(Job(f"{', '.join(simple)} on {trace_name}", measure_simple, (task, simple)))
    return jobs


def measure_simple(task: Task, labels: Sequence[str], tell: Tell) -> list[Record]:
    """Measure policies that tieralloc has."""
    made = trace.read(task.path)
    about = _about(made, "tieralloc")
    return [
        {**_simulate(made, label, label, fraction, tell), **about}
        for label in labels
        for fraction in task.fast_fractions
    ]


def measure_learned(
    task: Task, trained: str, labels: Sequence[str], seed: int, tell: Tell
) -> list[Record]:
    """Train once, and measure the contenders that are trained so."""
    made = trace.read(task.path)
    directory, seconds = train(task, made, trained, seed, tell)
    about = {**_about(made, "tieralloc", "torch"), "seed": seed, "training_cpu_seconds": seconds}
    records = []
    for contender in CONTENDERS:
        if not isinstance(contender, Learned) or contender.label not in labels:
            continue
        policy = contender.load(directory)
        for fraction in task.fast_fractions:
            record = _simulate(made, contender.label, policy, fraction, tell)
            records.append({**record, **about})
    return records


def measure_foreign(task: Task, contender: Foreign, tell: Tell) -> list[Record]:
    """Measure a cache of libcachesim. What it evicts it does not say."""
    made = trace.read(task.path)
    accesses = made.accesses()
    counted = first_counted(len(accesses), COUNT_FROM)
    distinct = count_distinct(accesses, int(made.num_embeddings.sum()))
    records = []
    for fraction in task.fast_fractions:
        capacity = fast_rows(fraction, distinct)
        report = _share_of(len(accesses), f"{percent(fraction)}: ", tell)
        began = time.process_time()
        counts = foreign.count(contender.kind, accesses, capacity, counted, report)
        spent = time.process_time() - began
        record = count_record(
            contender.label, made.name, fraction, capacity, {**counts, "evictions": None}
        )
        records.append({**_timed(record, spent, made), **_about(made, foreign.PACKAGE)})
    return records


def _simulate(
    made: Trace, label: str, policy: str | TrainedPolicy, fraction: float, tell: Tell
) -> Record:
    report = _share_of(made.num_lookups, f"{label} at {percent(fraction)}: ", tell)
    began = time.process_time()
    (record,) = simulate(made, [policy], [fraction], COUNT_FROM, progress=report)
    spent = time.process_time() - began
    return {**_timed(record, spent, made), "policy": label}


def _timed(record: Mapping[str, Any], seconds: float, made: Trace) -> Record:
    return {**record, "cpu_us_per_access": round(1e6 * seconds / made.num_lookups, 4)}


def _about(made: Trace, *packages: str) -> Record:
    """Return what else a record says: of which trace, by what, and where."""
    return {
        "seed": None,
        "training_cpu_seconds": None,
        "trace_sha256": fingerprint(made.accesses()),
        "trace_lookups": made.num_lookups,
        "measured_by": ", ".join(map(_versioned, packages)),
        "machine": _machine.describe(),
    }


def _versioned(package: str) -> str:
    found = tieralloc.__version__ if package == "tieralloc" else version_of(package)
    return f"{package} {found}"


def train(task: Task, made: Trace, policy: str, seed: int, tell: Tell) -> tuple[Path, float | None]:
    """Train a policy, or take it as it was trained before; return where, and the CPU seconds.

    These are None where training goes on from where an interrupted run left it.
    """
    sha256 = fingerprint(made.accesses())
    directory = task.models / f"{made.name}-{sha256[:8]}" / f"{policy}-seed{seed}"
    note = directory.with_name(f"{directory.name}.json")
    settings = {
        "policy": policy,
        "trace_sha256": sha256,
        "fast_fractions": list(task.fast_fractions),
        "epochs": task.epochs,
        "seed": seed,
    }
    if task.reuse and note.exists():
        known = json.loads(note.read_text())
        if known["settings"] == settings:
            return directory, known["cpu_seconds"]
    note.unlink(missing_ok=True)
    if not task.reuse:
        shutil.rmtree(directory, ignore_errors=True)
    resumed = directory.exists()
    train_policy = trainer(policy)
    options = {} if task.epochs is None else {"epochs": task.epochs}
    began = time.process_time()
    train_policy(
        made,
        directory,
        list(task.fast_fractions),
        until=COUNT_FROM,
        seed=seed,
        progress=_telling(tell),
        **options,
    )
    seconds = None if resumed else round(time.process_time() - began, 1)
    note.write_text(json.dumps({"settings": settings, "cpu_seconds": seconds}) + "\n")
    return directory, seconds


def _telling(tell: Tell) -> Narration:
    """Return what opens the bars of a training as words."""

    @contextmanager
    def opened(what: str, total: int, unit: str) -> Iterator[Narrate]:
        report = _share_of(total, f"{what}, ", tell)
        yield lambda done, state: report(done)

    return opened


def _share_of(total: int, what: str, tell: Tell) -> Callable[[int], None]:
    """Return what counts things done and tells the share of all."""
    done = 0

    def report(more: int) -> None:
        nonlocal done
        done += more
        tell(f"{what}{done / total:.0%}")

    return report
