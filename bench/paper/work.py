"""The pieces of a run: models trained on a trace, and a comparison at one capacity."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tieralloc.policies.baselines.registry import baseline_names, make_baselines
from tieralloc.policies.baselines.scene import ORDERS, Scene, Stream
from tieralloc.policies.baselines.tuning import TEST_SHARE
from tieralloc.policies.registry import trainer

import tieralloc
from bench.machine import version_of
from bench.policies.jobs import Tell
from tieralloc import trace
from tieralloc._common.progress import Narrate
from tieralloc.policy.directory import fingerprint, read_policy
from tieralloc.tools.compare import RECMG, cells_of, compare, prefetching_names
from tieralloc.tools.report import percent
from tieralloc.trace.stream import first_counted

if TYPE_CHECKING:
    from tieralloc.trace import Trace

Record = dict[str, Any]
Waiting = Callable[[str], AbstractContextManager[None]]

COUNT_FROM = 0.5
CACHING = ("lru", "s3fifo", RECMG)


@dataclass(frozen=True)
class Task:
    """What is measured, and how.

    Parameters
    ----------
    path : path
        Of the trace.
    fast_fractions : tuple of float
        Capacities, as fractions of the trace's distinct rows.
    models : path
        Where models are trained into; those that are there already are taken as they are.
    epochs : int or None
        Most epochs of training; None: as many as are usual.
    tuned : bool
        Whether baselines' settings are chosen first.
    """

    path: Path
    fast_fractions: tuple[float, ...]
    models: Path
    epochs: int | None
    tuned: bool


@dataclass(frozen=True)
class Found:
    """What a comparison came to: records, and what was tried before."""

    records: list[Record]
    tried: list[Record]


def train(task: Task, tell: Tell) -> dict[str, float]:
    """Train recmg and TransFetch on the first half of a trace; return CPU seconds of each."""
    made = trace.read(task.path)
    began = time.process_time()
    _train_recmg(task, made, tell)
    seconds = {RECMG: time.process_time() - began}
    began = time.process_time()
    _train_transfetch(task, made, tell)
    seconds["transfetch"] = time.process_time() - began
    return seconds


def compare_at(task: Task, runs: Sequence[tuple[float, int]], tell: Tell) -> Found:
    """Compare everything, at some capacities, each with fetches that take so many accesses."""
    from tieralloc.policies.recmg.policy import RecmgCachingPolicy, RecmgPolicy

    made = trace.read(task.path)
    directory = _models_of(task, made)
    baselines = _baselines(task, directory, tell)
    learned = {
        RECMG: RecmgPolicy.load(directory / RECMG),
        f"{RECMG}-caching": RecmgCachingPolicy.load(directory / RECMG, f"{RECMG}-caching"),
    }
    cells = cells_of(CACHING, prefetching_names())
    total = len(cells) * made.num_lookups

    found = Found([], [])
    about = _about(made)
    for fraction, lag in runs:
        report, waiting = _telling(total, f"{percent(fraction)}: ", tell)
        compared = compare(
            made,
            cells,
            [fraction],
            COUNT_FROM,
            baselines=baselines,
            learned=learned,
            tuned=task.tuned,
            lag=lag,
            progress=report,
            waiting=waiting,
        )
        found.records.extend({**record, **about} for record in compared.records)
        found.tried.extend(compared.tried)
    return found


def _telling(total: int, what: str, tell: Tell) -> tuple[Callable[[int], None], Waiting]:
    """Return what counts accesses and tells the share of all, and what tells of other work."""
    done = 0

    def report(accesses: int) -> None:
        nonlocal done
        done += accesses
        tell(f"{what}{done / total:.0%}")

    @contextmanager
    def waiting(work: str) -> Iterator[None]:
        tell(f"{what}{work}")
        yield

    return report, waiting


def _about(made: Trace) -> Mapping[str, Any]:
    accesses = made.accesses()
    packages = {"tieralloc": tieralloc.__version__, "torch": version_of("torch")}
    return {
        "first_accesses": first_accesses(accesses, first_counted(len(accesses), COUNT_FROM)),
        "trace_lookups": len(accesses),
        "trace_sha256": fingerprint(accesses),
        "measured_by": ", ".join(f"{name} {version}" for name, version in packages.items()),
    }


def first_accesses(accesses: np.ndarray[Any, Any], counted: int) -> int:
    """Count the accesses from number `counted` on that are the first ones of their rows."""
    _, first = np.unique(accesses, return_index=True)
    return int(np.count_nonzero(first >= counted))


def _models_of(task: Task, made: Trace) -> Path:
    return task.models / f"{made.name}-{fingerprint(made.accesses())[:8]}"


def _train_recmg(task: Task, made: Trace, tell: Tell) -> None:
    directory = _models_of(task, made) / RECMG
    if (directory / "manifest.json").exists():
        read_policy(directory)
        return
    directory.mkdir(parents=True, exist_ok=True)
    options = {} if task.epochs is None else {"epochs": task.epochs}
    trainer(RECMG)(
        made,
        directory,
        list(task.fast_fractions),
        until=COUNT_FROM,
        progress=_Telling(tell),
        **options,
    )


def _train_transfetch(task: Task, made: Trace, tell: Tell) -> None:
    """Train what tuning and measuring will ask for."""
    stream = Stream.of(made)
    counted = first_counted(len(stream.accesses), COUNT_FROM)
    scenes = [Scene(stream, counted)]
    if task.tuned:
        scenes.append(Scene(stream.until(counted), int(counted * (1 - TEST_SHARE))))
    baselines = _baselines(task, _models_of(task, made), tell)
    for scene in scenes:
        for order in ORDERS:
            baselines["transfetch"].prepare(scene, {"order": order})


def _baselines(task: Task, directory: Path, tell: Tell) -> dict[str, Any]:
    baselines = make_baselines(
        baseline_names(), checkpoints=directory / "transfetch", progress=_Telling(tell)
    )
    if task.epochs is not None:
        transfetch: Any = baselines["transfetch"]
        transfetch.training = replace(transfetch.training, epochs=task.epochs)
    return dict(baselines)


class _Telling:
    """Opens the bars of a training as words."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell

    @contextmanager
    def __call__(self, what: str, total: int, unit: str) -> Iterator[Narrate]:
        done = 0

        def report(more: int, state: str) -> None:
            nonlocal done
            done += more
            self._tell(f"{what}, {done / max(total, 1):.0%}")

        yield report


def name_of(path: Path, runs: Sequence[tuple[float, int]]) -> str:
    """Call a comparison by what it is of."""
    places = [
        percent(fraction) + (f" with a lag of {lag}" if lag else "") for fraction, lag in runs
    ]
    return f"{path.stem} at {', '.join(places)}"
