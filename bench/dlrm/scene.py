"""A scene: baselines in turn on a trace, at a capacity, on given cores; and its records."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

import tieralloc as ta
from bench.dlrm.baselines import BASELINES, LRU
from bench.dlrm.requests import Requests
from bench.dlrm.settings import Cores
from bench.scenery.processes import Child, ChildFailedError
from bench.scenery.turns import Spread, alternate, ratios
from tieralloc.tools.replay.arrivals import is_saturated
from tieralloc.tools.simulate import count_record
from tieralloc.trace.stream import fast_rows

if TYPE_CHECKING:
    from bench.dlrm.server import Served

Record = dict[str, Any]

_QUANTILES = {"p50": 0.5, "p99": 0.99}


@dataclass
class Scene:
    """Baselines to measure side by side, and their settings."""

    requests: Requests
    fraction: float  # capacity as a share of the trace's distinct rows
    cores: Cores
    policies: Mapping[str, Path]  # directories of trained policies, by name
    orders: Mapping[str, Path]  # learned orders of rows, by dtype
    directory: Path  # of slow tiers
    failed: dict[str, str] = field(default_factory=dict)  # baselines, and why
    others_busy_cores: float = 0.0
    score_difference: dict[str, float] = field(default_factory=dict)  # of int8 rows

    @property
    def name(self) -> str:
        return f"{self.requests.trace.name}, {self.fraction:g}, {self.cores.name}"

    @property
    def fast_rows(self) -> int:
        """Rows of the fast tier."""
        return fast_rows(self.fraction, self.requests.distinct_rows)

    @cached_property
    def budget(self) -> int:
        """DRAM that LRU takes for `fast_rows` rows of float32, with index and metadata."""
        trace = self.requests.trace
        with tempfile.TemporaryDirectory(dir=self.directory) as folder:
            file = ta.File(Path(folder, "sparse.tier"), mode="w", reserve=False)
            with ta.TieredStore(slow=file, fast_rows=self.fast_rows, policy=LRU) as store:
                for name, rows in zip(
                    trace.table_names, trace.num_embeddings.tolist(), strict=True
                ):
                    store.create_table(name, rows, self.requests.settings.embedding_dim)
                dram = store.stats().dram
        return dram.vector_bytes + dram.index_bytes + dram.metadata_bytes

    def measure(self, labels: Sequence[str], rate: float | None) -> list[Record]:
        """Serve all counted requests with each baseline in turn; a closed loop without a rate."""
        segments = self.requests.segments()
        with self._children(labels) as children:

            def serve(child: Child, turn: int) -> Any:
                return child.call("serve", segments[turn], rate)

            measures = {label: partial(serve, child) for label, child in children.items()}
            with self._counting_others():
                turns = alternate(self.name, len(segments), measures, self.failed)
            about = {label: children[label].call("about") for label in turns}
        return [
            {
                **self._counts(label, turns[label][-1].counts),
                **_rates(turns[label], rate),
                "latency_us": _latencies(turns[label]),
                **(_times(turns[label]) if rate is None else {}),
                "time_to_lru": _ratios(turns[label], turns.get(LRU)),
                **about[label],
            }
            for label in turns
        ]

    @contextmanager
    def _children(self, labels: Sequence[str]) -> Iterator[dict[str, Child]]:
        """Start and warm up the servers; their last scores must be the same, bit for bit."""
        from bench.dlrm.server import start_server

        scores: dict[str, Any] = {}
        with ExitStack() as stack:
            children = {}
            for label in labels:
                baseline = BASELINES[label]
                policy = self.policies.get(baseline.trained)
                order = self.orders[baseline.dtype] if baseline.is_arranged else None
                place = (self.directory, self.fast_rows, self.budget, policy, order, self.cores)
                arguments = (self.requests, baseline, *place)
                try:
                    child = Child(
                        label, start_server, arguments, paused=True, preload=["bench.dlrm.server"]
                    )
                    stack.callback(child.close)
                    scores[label] = child.call("warm")
                    children[label] = child
                except ChildFailedError as error:
                    self.failed[label] = str(error)
            self._compare_scores(scores)
            yield children

    def _compare_scores(self, scores: Mapping[str, Any]) -> None:
        """Check that scores of a dtype are equal; keep the differences of int8 and float32."""
        firsts: dict[str, str] = {}
        for label, own in scores.items():
            first = firsts.setdefault(BASELINES[label].dtype, label)
            if not np.array_equal(own, scores[first]):
                raise RuntimeError(f"{label} and {first} return different scores")
        if {"float32", "int8"} <= firsts.keys():
            difference = np.abs(scores[firsts["int8"]] - scores[firsts["float32"]])
            self.score_difference = {
                "max": float(difference.max()),
                "mean": float(difference.mean()),
            }

    @contextmanager
    def _counting_others(self) -> Iterator[None]:
        """Measure the cores that other processes use during a turn."""
        began, busy, own = time.monotonic(), *_cpu_seconds()
        yield
        now_busy, now_own = _cpu_seconds()
        others = (now_busy - busy - (now_own - own)) / (time.monotonic() - began)
        self.others_busy_cores = max(self.others_busy_cores, others)

    def _counts(self, label: str, counts: Mapping[str, int]) -> Record:
        if not counts:  # torch has no counters
            lookups = sum(len(indices) for indices, _ in self.requests.counted)
            counts = {"lookups": lookups, "hits": lookups, "on_demand_fetches": 0, "evictions": 0}
        trace = self.requests.trace.name
        return {
            **count_record(label, trace, self.fraction, self.fast_rows, counts),
            "placement": self.cores.name,
        }


def _rates(turns: Sequence[Served], rate: float | None) -> Record:
    """Return the rates; in a closed loop only time in calls counts."""
    if rate is None:
        nanoseconds = sum(int((turn.ended - turn.begun).sum()) for turn in turns)
    else:
        nanoseconds = sum(int(turn.ended.max() - turn.due.min()) for turn in turns)
    record: Record = {
        "loop": "closed" if rate is None else "open",
        "rate_unit": "requests/s",
        "offered_rate": rate,
        "achieved_rate": sum(len(turn.due) for turn in turns) / nanoseconds * 1e9,
    }
    if rate is not None:
        saturated = [is_saturated(t.due - t.due[0], t.ended - t.due[0], 1) for t in turns]
        record["saturated"] = sum(saturated) > len(turns) / 2
    return record


def _latencies(turns: Sequence[Served]) -> dict[str, float]:
    latencies = np.concatenate([turn.ended - turn.due for turn in turns]) / 1000
    values = np.quantile(latencies, list(_QUANTILES.values()), method="inverted_cdf")
    return dict(zip(_QUANTILES, values.tolist(), strict=True))


def _times(turns: Sequence[Served]) -> Record:
    """Return means of the parts of a request's time, and of its CPU time, in µs."""
    spent = np.concatenate([turn.ended - turn.begun for turn in turns])
    prefetching = np.concatenate([turn.prefetching for turn in turns])
    embedding = np.concatenate([turn.embedding for turn in turns])
    parts = {
        "embedding": embedding,
        "MLPs": spent - prefetching - embedding,
        "prefetch calls": prefetching,
    }
    cpu = {name: sum(turn.cpu_ns[name] for turn in turns) for name in turns[0].cpu_ns}
    return {
        "time_us": {name: float(part.mean()) / 1000 for name, part in parts.items()},
        "cpu_us": {name: value / len(spent) / 1000 for name, value in cpu.items()},
    }


def _ratios(own: Sequence[Served], lru: Sequence[Served] | None) -> Spread | None:
    """Return mean latencies ÷ those of LRU, turn by turn."""
    if lru is None:
        return None
    means, base = ([float((t.ended - t.due).mean()) for t in turns] for turns in (own, lru))
    return ratios(means, base)


def _cpu_seconds() -> tuple[float, float]:
    """Return CPU seconds of the machine, and of this process with its children, so far."""
    times = psutil.cpu_times()
    busy = sum(times) - times.idle - times.iowait - times.guest - times.guest_nice
    own = 0.0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        spent = process.cpu_times()
        own += spent.user + spent.system
    return busy, own
