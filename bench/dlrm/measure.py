"""Contenders in turn on the requests of a trace, and the records of what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil

from bench.dlrm.child import Child, ChildFailedError, Job
from bench.dlrm.contenders import LRU, Contender
from bench.dlrm.requests import Requests, parts_of
from tieralloc.tools import machine as _machine
from tieralloc.tools.disk import file_system_of
from tieralloc.tools.replay.arrivals import is_saturated, waiting_calls
from tieralloc.tools.simulate import count_record
from tieralloc.trace.stream import fast_rows

Record = dict[str, Any]

_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}
_COUNTS = ("lookups", "hits", "on_demand_fetches", "evictions")


@dataclass(frozen=True)
class Place:
    """On which cores a contender runs: all of it, the thread that serves, the policy's."""

    name: str
    cores: tuple[int, ...]
    serving: tuple[int, ...]
    policy: tuple[int, ...]


def places(cores: Sequence[int]) -> list[Place]:
    """Return where to measure: with the policy on the core of serving, and on one of its own."""
    first, second = tuple(cores[:1]), tuple(cores[1:2])
    shared = Place("one core for all", first, first, first)
    if not second:
        return [shared]
    return [shared, Place("two cores, the policy on one", first + second, first, second)]


@dataclass
class Scene:
    """What is measured beside each other: a trace, a capacity and a place.

    Parameters
    ----------
    path : path
        Of the trace.
    requests : Requests
    fraction : float
        Capacity as a share of the trace's distinct rows.
    place : Place
    policies : mapping of str to path
        Directories of the trained policies, by name.
    directory : path
        Where slow tiers go.
    """

    path: Path
    requests: Requests
    fraction: float
    place: Place
    policies: Mapping[str, Path]
    directory: Path
    failed: dict[str, str] = field(default_factory=dict)

    def measure(
        self,
        contenders: Sequence[Contender],
        rates: Sequence[float | None],
        tell: Callable[[str], None],
    ) -> list[Record]:
        """Serve all counted requests with each contender, segment by segment in turn.

        The rates take turns too, segment by segment; None is a closed loop.
        """
        with self._children(contenders, tell) as children:
            self._check_scores(children)
            turns: dict[str, list[tuple[float | None, Any]]] = {label: [] for label in children}
            busy = _Busy()
            for turn, numbers in enumerate(self._segments(len(rates))):
                rate = rates[turn % len(rates)]
                labels = list(children)
                shift = turn % len(labels)
                for label in [*labels[shift:], *labels[:shift]]:
                    child = children.get(label)
                    if child is None:
                        continue
                    try:
                        with busy:
                            turns[label].append((rate, child.serve(numbers, rate)))
                    except ChildFailedError as error:
                        self._drop(children, label, error)
                tell(f"segment {turn + 1}")
            about = {label: child.about() for label, child in children.items()}
            found = {label: turns[label] for label in children}
        return self._records(contenders, found, about, rates, busy.others)

    def _segments(self, rates: int) -> list[range]:
        """Return segments as many as each rate needs to have its own ones."""
        segments = self.requests.segments()
        if rates == 1:
            return segments
        cut = []
        for numbers in segments:
            cut += parts_of(numbers, rates)
        return cut

    @contextmanager
    def _children(
        self, contenders: Sequence[Contender], tell: Callable[[str], None]
    ) -> Iterator[dict[str, Child]]:
        children: dict[str, Child] = {}
        try:
            for contender in contenders:
                tell(f"warming {contender.label}")
                try:
                    children[contender.label] = Child(self._job(contender))
                except ChildFailedError as error:
                    self.failed[contender.label] = str(error)
            yield children
        finally:
            for child in children.values():
                child.end()

    def _job(self, contender: Contender) -> Job:
        return Job(
            trace=self.path,
            settings=self.requests.settings,
            contender=contender,
            directory=self.directory,
            fast_rows=self.fast_rows,
            policy=self.policies.get(contender.trained),
            cores=self.place.cores,
            serving_cores=self.place.serving,
            policy_cores=self.place.policy,
        )

    @property
    def fast_rows(self) -> int:
        """Rows of the fast tier."""
        return fast_rows(self.fraction, self.requests.distinct_rows)

    def _drop(self, children: dict[str, Child], label: str, error: ChildFailedError) -> None:
        self.failed[label] = str(error)
        children.pop(label).end()

    def _check_scores(self, children: Mapping[str, Child]) -> None:
        """Compare the scores of the last request before those that are counted."""
        first = next(iter(children.values()))
        for label, child in children.items():
            if not np.array_equal(child.scores, first.scores):
                raise RuntimeError(
                    f"{label} scores otherwise than {first.job.contender.label}: nothing here can"
                    " be compared"
                )

    def _records(
        self,
        contenders: Sequence[Contender],
        turns: Mapping[str, Sequence[tuple[float | None, Any]]],
        about: Mapping[str, Mapping[str, Any]],
        rates: Sequence[float | None],
        others: float,
    ) -> list[Record]:
        records = []
        for contender in contenders:
            if contender.label not in turns:
                continue
            for rate in rates:
                own = [served for at, served in turns[contender.label] if at == rate]
                base = [served for at, served in turns.get(LRU, ()) if at == rate]
                record = {
                    **self._counts(contender, turns[contender.label][-1][1].counts),
                    **_load(own, rate),
                    **_times(own),
                    "time_to_lru": _ratios(own, base),
                    **about[contender.label],
                    "machine": _machine.describe(),
                    "others_busy_cores": round(others, 2),
                }
                if "slow_tier" in record:
                    kind = file_system_of(self.directory).kind
                    record["slow_tier"] += f" on {kind}"
                records.append(record)
        return records

    def _counts(self, contender: Contender, counts: Mapping[str, int]) -> Record:
        settings = self.requests.settings
        lookups = sum(len(indices) for indices, _ in self.requests.counted)
        none = {"lookups": lookups, "hits": lookups, "on_demand_fetches": 0, "evictions": 0}
        name = self.requests.trace.name
        return {
            **count_record(contender.label, name, self.fraction, self.fast_rows, counts or none),
            "prefetches_useless": counts.get("prefetches_useless", 0),
            "prefetches_dropped": counts.get("prefetches_dropped", 0),
            "caching": contender.name if contender.memory == "store" else "none",
            "prefetching": contender.prefetching,
            "placement": self.place.name,
            "batch_size": settings.batch_size,
            "embedding_dim": settings.embedding_dim,
            "threads": 1,
        }


def closed_rate(records: Sequence[Record], label: str = LRU) -> float | None:
    """Requests a second that a contender reached in a closed loop."""
    rates = [r["achieved_rate"] for r in records if r["policy"] == label and r["loop"] == "closed"]
    return rates[0] if rates else None


def _load(served: Sequence[Any], rate: float | None) -> Record:
    seconds = sum(float(_span(each, rate)) for each in served) * 1e-9
    calls = sum(len(each.due) for each in served)
    record: Record = {
        "loop": "closed" if rate is None else "open",
        "rate_unit": "requests/s",
        "offered_rate": rate,
        "achieved_rate": calls / seconds,
        "calls": calls,
    }
    if rate is not None:
        record["backlog_max"] = max(int(waiting_calls(s.due, s.ended, 1).max()) for s in served)
        record["saturated"] = (
            sum(is_saturated(s.due - s.due[0], s.ended - s.due[0], 1) for s in served)
            > len(served) / 2
        )
    return record


def _span(served: Any, rate: float | None) -> int:
    """Nanoseconds that a turn took: of a closed loop those in calls."""
    if rate is None:
        return int((served.ended - served.begun).sum())
    return int(served.ended.max() - served.due.min())


def _times(served: Sequence[Any]) -> Record:
    latencies = np.concatenate([each.ended - each.due for each in served])
    values = np.quantile(latencies, list(_QUANTILES.values()), method="inverted_cdf") / 1000
    spent = np.concatenate([each.ended - each.begun for each in served])
    hints = np.concatenate([each.hints for each in served])
    embedding = np.concatenate([each.embedding for each in served])
    calls = len(latencies)
    cpu = {
        name: round(sum(each.cpu_ns[name] for each in served) / calls / 1000, 1)
        for name in served[0].cpu_ns
    }
    return {
        "latency_us": {
            name: round(float(value), 1) for name, value in zip(_QUANTILES, values, strict=True)
        },
        "time_us": {
            "embedding": round(float(embedding.mean()) / 1000, 1),
            "MLPs and interaction": round(float((spent - hints - embedding).mean()) / 1000, 1),
            "asking for queued rows": round(float(hints.mean()) / 1000, 1),
        },
        "cpu_us": cpu,
    }


def _ratios(own: Sequence[Any], base: Sequence[Any]) -> Record | None:
    """Compare mean times of requests with LRU's, turn by turn: median, quartiles and how many."""
    if len(own) != len(base) or not own:
        return None
    ratios = [
        float((a.ended - a.due).mean() / (b.ended - b.due).mean())
        for a, b in zip(own, base, strict=True)
    ]
    low, high = np.quantile(ratios, [0.25, 0.75])
    return {
        "median": round(median(ratios), 4),
        "low": round(float(low), 4),
        "high": round(float(high), 4),
        "count": len(ratios),
    }


class _Busy:
    """Cores that others took on average while it was entered, as far as the system tells."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._others = 0.0

    def __enter__(self) -> None:
        self._before = self._now()

    def __exit__(self, *_: object) -> None:
        wall, busy, own = (b - a for a, b in zip(self._before, self._now(), strict=True))
        self._seconds += wall
        self._others += max(0.0, busy - own)

    @property
    def others(self) -> float:
        return self._others / self._seconds if self._seconds else 0.0

    @staticmethod
    def _now() -> tuple[float, float, float]:
        import time

        times = psutil.cpu_times()
        busy = sum(times) - times.idle - times.iowait - times.guest - times.guest_nice
        own = 0.0
        for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
            try:
                spent = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            own += spent.user + spent.system
        return time.monotonic(), busy, own
