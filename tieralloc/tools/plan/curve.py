"""Miss ratio curves: each policy at each capacity, simulated on as few accesses as the error needs.

    rate = the lowest whose slices have enough accesses, and rows at the smallest capacity
    repeat
        simulate disjoint slices of the rate, each at rate * capacity
        error = 2 * standard error of the miss ratios of the slices, the maximum of the capacities
        if it exceeds the max error: double the rate; when the slices cover the trace: simulate it
    until it does not

A miss ratio is sampled misses ÷ (rate * accesses): the misses of a sample vary less than its
accesses, which a few popular rows decide (SHARDS-adj). Learned policies, whose inputs are distances
between accesses, simulate the whole trace.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tieralloc._bindings import Simulator, rows_per_page
from tieralloc._common.progress import Progress, silent
from tieralloc.order import pages_of_rows
from tieralloc.policy.planned import PREFETCH_COST
from tieralloc.tools.plan.sampling import Sample, page_slice, whole
from tieralloc.trace.stream import Stream, first_counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tieralloc._bindings import PlannedModel
    from tieralloc.policy.trained import TrainedPolicy
    from tieralloc.trace import Trace

#: Slices of one rate.
SLICES = 4
#: Accesses of all slices of the first rate, at least; shorter traces are not sampled.
MIN_ACCESSES = 1_000_000
#: Rows of the smallest simulated tier, and pages of a slice.
MIN_ROWS = 64
#: Calls whose reads are counted one by one, at most.
_MAX_CALLS = 4096


@dataclass(frozen=True)
class Workload:
    """A trace as requests: calls of `batch_size` samples; those before `first_sample` warm up."""

    trace: Trace
    batch_size: int
    embedding_dim: int
    dtype: str
    first_sample: int
    stream: Stream = field(repr=False)
    pages: NDArray[np.uint32] = field(repr=False)

    @classmethod
    def of(
        cls, trace: Trace, batch_size: int, embedding_dim: int, dtype: str, count_from: float
    ) -> Workload:
        """Return the requests of a trace; ValueError if it has no counted sample."""
        stream = Stream.of(trace)
        first = trace.sample_of_access(first_counted(len(stream.accesses), count_from))
        if first >= trace.num_samples:
            raise ValueError(
                f"count_from: no sample of trace {trace.name!r} begins at or after it; expected a "
                f"lower share, got {count_from}"
            )
        if not stream.lengths[first:].any():
            raise ValueError(f"count_from: no access of trace {trace.name!r} is counted")
        pages = pages_of_rows(trace, rows_per_page(embedding_dim, dtype))
        return cls(trace, batch_size, embedding_dim, dtype, first, stream, pages)

    @property
    def counted_accesses(self) -> int:
        """Number of accesses of the counted calls."""
        return int(self.stream.lengths[self.first_sample :].sum(dtype=np.int64))

    @property
    def counted_calls(self) -> int:
        """Number of counted calls."""
        return -(-(self.trace.num_samples - self.first_sample) // self.batch_size)


class Point(NamedTuple):
    """A policy at a capacity."""

    policy: str
    capacity: int
    miss_ratio: float
    miss_ratio_error: float  # 2 standard errors of the sampling; 0 without sampling
    sample_rate: float  # of the accesses
    prefetch_reads: float  # pages per call
    reads_per_call: float  # pages that a call waits for, mean
    reads: NDArray[np.int64]  # the same of single calls: counted, or drawn after sampling
    policy_bytes: int  # DRAM of a learned policy


class _Counts(NamedTuple):
    """Counted calls of a simulation."""

    misses: int
    reads: int
    prefetch_reads: int
    reads_of_calls: NDArray[np.int64]  # of the calls that were counted one by one
    lookups_of_calls: NDArray[np.int64]  # of the same calls, without sampling
    policy_bytes: int


class Curve:
    """Miss ratios of a policy, which remembers the sampling that was enough for the first ones.

    Parameters
    ----------
    workload : Workload
    policy : str or TrainedPolicy
    max_error : float
        Of the miss ratios, two standard errors.
    seed : int
        Random seed of the samples and the policy.
    min_accesses : int
        Of all slices of the first rate.
    """

    def __init__(
        self,
        workload: Workload,
        policy: str | TrainedPolicy,
        max_error: float,
        seed: int = 0,
        min_accesses: int = MIN_ACCESSES,
    ) -> None:
        self._workload = workload
        self._policy = policy
        self._max_error = max_error
        self._seed = seed
        self._min_accesses = min_accesses
        self._halvings = 0  # of the rate; 0: no sampling
        self._samples: list[Sample] = []

    @property
    def name(self) -> str:
        """The policy's name in records."""
        return self._policy if isinstance(self._policy, str) else self._policy.name

    def points(self, capacities: Sequence[int], progress: Progress = silent) -> list[Point]:
        """Return the points at some capacities; the first call chooses the sampling rate."""
        if self._samples:
            return self._points_at_rate(capacities, progress)
        self._use_rate(self._first_halvings(min(capacities)))
        while True:
            points = self._points_at_rate(capacities, progress)
            if max(point.miss_ratio_error for point in points) <= self._max_error:
                return points
            self._use_rate(_finer(self._halvings))

    def _first_halvings(self, smallest: int) -> int:
        if not isinstance(self._policy, str):
            return 0
        accesses, pages = self._workload.stream.accesses, self._workload.pages
        rate = max(
            self._min_accesses / (SLICES * len(accesses)),
            MIN_ROWS / smallest,
            MIN_ROWS / (int(pages.max()) + 1),
        )
        halvings = math.floor(-math.log2(min(rate, 1)))
        return halvings if 2**halvings > SLICES else 0

    def _use_rate(self, halvings: int) -> None:
        stream, pages = self._workload.stream, self._workload.pages
        self._halvings = halvings
        self._samples = (
            [page_slice(stream, pages, halvings, number, self._seed) for number in range(SLICES)]
            if halvings
            else [whole(stream, pages)]
        )

    def _points_at_rate(self, capacities: Sequence[int], progress: Progress) -> list[Point]:
        total = len(capacities) * sum(len(each.stream.accesses) for each in self._samples)
        rate = self._samples[0].rate * len(self._samples)
        sampled = "" if rate == 1 and len(self._samples) == 1 else f", {rate:.3g} of the accesses"
        with progress(f"simulating {self.name}{sampled}", total, "accesses") as done:
            return [self._point(capacity, done) for capacity in capacities]

    def _point(self, capacity: int, done: Callable[[int], object]) -> Point:
        workload = self._workload
        counts = [
            _simulate(workload, self._model(capacity), sample, capacity, self._seed, done)
            for sample in self._samples
        ]
        rate = self._samples[0].rate
        ratios = np.array([each.misses for each in counts]) / (rate * workload.counted_accesses)
        per_call = len(counts) * rate * workload.counted_calls
        mean = sum(each.reads for each in counts) / per_call
        error, reads = 0.0, counts[0].reads_of_calls
        if len(counts) > 1:
            error = 2 * float(ratios.std(ddof=1)) / math.sqrt(len(counts))
            pooled = np.sum([each.reads_of_calls for each in counts], axis=0)
            reads = unthinned(
                pooled, counts[0].lookups_of_calls, len(counts) * rate, mean, self._seed
            )
        return Point(
            self.name,
            capacity,
            float(ratios.mean()),
            error,
            len(counts) * rate,
            sum(each.prefetch_reads for each in counts) / per_call,
            mean,
            reads,
            counts[0].policy_bytes,
        )

    def _model(self, capacity: int) -> str | PlannedModel:
        policy = self._policy
        if isinstance(policy, str):
            return policy
        return policy.model_for(capacity, self._workload.stream.accesses)


def _finer(halvings: int) -> int:
    """Return the halvings of twice the rate; 0 if the slices would cover the whole trace."""
    return halvings - 1 if 2 ** (halvings - 1) > SLICES else 0


def unthinned(
    counts: NDArray[np.int64],
    lookups: NDArray[np.int64],
    rate: float,
    mean: float,
    seed: int = 0,
) -> NDArray[np.int64]:
    """Draw counts of which a share `rate` was sampled: of this mean, and of their dispersion.

    Parameters
    ----------
    counts, lookups : (n,) int64
        Of each call: sampled reads, and all lookups.
    rate : float
        Share of the reads that was sampled, each on its own.
    mean : float
        Of the drawn counts.
    seed : int
        Random seed.

    Returns
    -------
    (n,) int64
        Poisson counts. The intensity of a call is linear in its lookups, by least squares, times a
        gamma factor of the rest of the dispersion: factorial moments of sampled counts are those of
        the counts times powers of the rate.
    """
    sampled_mean = float(counts.mean())
    if sampled_mean == 0:
        return np.zeros(len(counts), dtype=np.int64)
    length = lookups / max(lookups.mean(), 1)
    slope = 0.0
    if length.var() > 0:
        slope = float(np.mean((counts / sampled_mean - 1) * (length - 1)) / length.var())
    intensity = np.maximum(0, 1 + slope * (length - 1))
    pairs = float(np.mean(counts * (counts - 1.0))) / sampled_mean**2
    rest = pairs / float(np.mean(intensity**2)) - 1
    random = np.random.default_rng(seed)
    if rest > 1e-9:
        intensity *= random.gamma(1 / rest, rest, len(counts))
    drawn: NDArray[np.int64] = random.poisson(mean * intensity / intensity.mean())
    return drawn


def _simulate(
    workload: Workload,
    model: str | PlannedModel,
    sample: Sample,
    capacity: int,
    seed: int,
    done: Callable[[int], object],
) -> _Counts:
    """Simulate the calls of a sample, and count the reads of some calls one by one."""
    stream, size, first = sample.stream, workload.batch_size, workload.first_sample
    rows = max(1, round(sample.rate * capacity))
    starts = np.concatenate(([0], np.cumsum(stream.lengths, dtype=np.int64)))
    simulator = Simulator(
        model,
        rows,
        stream.rows,
        count_from=int(starts[first]),
        seed=seed,
        table_starts=stream.table_starts,
        samples_per_call=size,
        pages=sample.pages,
        prefetch_cost=PREFETCH_COST,
    )

    def run(begin: int, end: int) -> None:
        a, b = int(starts[begin]), int(starts[end])
        simulator.run(stream.accesses[a:b], stream.lengths[begin:end])
        done(b - a)

    for begin in range(0, first, step := size * max(1, (1 << 14) // size)):
        run(begin, min(begin + step, first))
    every = -(-workload.counted_calls // _MAX_CALLS)
    samples, reads, lookups = len(stream.lengths), [], []
    for begin in range(first, samples, every * size):
        last = begin + (every - 1) * size  # of the calls, the one that is counted alone
        run(begin, min(last, samples))
        if last < samples:
            before = simulator.counts["on_demand_device_reads"]
            end = min(last + size, samples)
            run(last, end)
            reads.append(simulator.counts["on_demand_device_reads"] - before)
            lookups.append(workload.stream.lengths[last:end].sum(dtype=np.int64))
    counts = simulator.counts
    return _Counts(
        counts["on_demand_fetches"],
        counts["on_demand_device_reads"],
        counts["prefetch_device_reads"],
        np.array(reads, dtype=np.int64),
        np.array(lookups, dtype=np.int64),
        simulator.policy_bytes,
    )
