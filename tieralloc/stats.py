"""The statistics of a store: frozen dataclasses with the names of the core.

The core lists each statistic once (``_core/base/counters.hpp``, ``_core/store/store_stats.hpp``,
``_core/policy/``). A new statistic takes a line there and a documented field here. Reading the
statistics raises TypeError for a name that only one side has.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from typing import (
    Annotated,
    Any,
    NamedTuple,
    NoReturn,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

__all__ = [
    "DramStats",
    "FastTierStats",
    "Group",
    "Latency",
    "LatencyStats",
    "LearnedStats",
    "LookupStats",
    "Placement",
    "PolicyLag",
    "PolicyPrefetchStats",
    "PolicyStats",
    "PromotionStats",
    "SlowTierStats",
    "StoreStats",
    "TableStats",
    "UpdateStats",
]

_G = TypeVar("_G", bound="Group")

_GROUPS: dict[type[Group], dict[str, _Nested | None]] = {}

# How `tieralloc.metrics` exports a field; other numbers are gauges, other texts are labels.
Counter = Annotated[int, "counter"]
FloatCounter = Annotated[float, "counter"]
State = Annotated[str, "state"]  # one of few words
ErrorText = Annotated[str, "error"]  # empty: none

#: Upper bounds of `Latency.counts_below`.
LATENCY_BOUNDS_NS = tuple(2**bits for bits in range(4, 35))


class Group:
    """A group of statistics: attributes, not keys."""

    @classmethod
    def of(cls: type[_G], values: Mapping[str, Any]) -> _G:
        """Return the group of the core's names and values; TypeError if the names differ.

        Nested mappings become nested groups, by the types of the fields.
        """
        groups = _groups_of(cls)
        missing, unknown = groups.keys() - values.keys(), values.keys() - groups.keys()
        if missing or unknown:
            raise TypeError(
                f"{cls.__name__}: the core and tieralloc/stats.py differ; missing: "
                f"{sorted(missing)}, unknown: {sorted(unknown)}"
            )
        return cls(
            **{
                name: value if (nested := groups[name]) is None else nested.of(value)
                for name, value in values.items()
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """Return nested dicts and lists of plain values, as for JSON."""
        return {name: _plain(getattr(self, name)) for name in _groups_of(type(self))}

    def __getitem__(self, name: object) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__}[{name!r}]: statistics are attributes; write stats().lookups "
            "for stats()['lookups'], or stats().to_dict() for nested dicts"
        )


def _groups_of(cls: type[Group]) -> dict[str, _Nested | None]:
    """Return the fields of a group in order, each with its nested groups or None."""
    if cls not in _GROUPS:
        _GROUPS[cls] = {name: _nested_in(hint) for name, hint in get_type_hints(cls).items()}
    return _GROUPS[cls]


def _nested_in(hint: Any) -> _Nested | None:
    container = get_origin(hint)
    if container not in (tuple, types.UnionType, Mapping):
        container = None
    kinds = [hint] if container is None else get_args(hint)
    groups = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Group)]
    return _Nested(groups[0], container) if groups else None


class _Nested(NamedTuple):
    """A field with groups: one, a tuple of them, or a mapping of names to them."""

    group: type[Group]
    container: Any

    def of(self, value: Any) -> Any:
        if value is None or isinstance(value, Group):
            return value
        if self.container is tuple:
            return tuple(self.group.of(item) for item in value)
        if self.container is Mapping:
            return {name: self.group.of(item) for name, item in value.items()}
        return self.group.of(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Group):
        return value.to_dict()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return value


@dataclasses.dataclass(frozen=True)
class Latency(Group):
    """A distribution of latencies, from a log-linear histogram; relative error at most 1/16."""

    count: Counter
    """Latencies recorded."""
    p50_ns: int
    """Median, nanoseconds."""
    p90_ns: int
    """90th percentile, nanoseconds."""
    p99_ns: int
    """99th percentile, nanoseconds."""
    p999_ns: int
    """99.9th percentile, nanoseconds."""
    max_ns: int
    """Maximum, nanoseconds."""
    sum_ns: Counter
    """Sum, nanoseconds."""
    counts_below: tuple[int, ...]
    """Latencies below 2**4, 2**5, … 2**34 nanoseconds: 16 ns to 17 s."""


@dataclasses.dataclass(frozen=True)
class LatencyStats(Group):
    """Latencies of calls and of their rows. Reads in place are not timed."""

    call_hit: Latency
    """A call whose rows were all hits."""
    call_on_demand: Latency
    """A call that waited for the slow tier."""
    row_hit: Latency
    """A row of a call whose rows were all hits."""
    row_on_demand: Latency
    """A read of one row from the slow tier, from its submission to its completion."""


@dataclasses.dataclass(frozen=True)
class LookupStats(Group):
    """Lookups beyond hits and on-demand fetches."""

    shared_fetches: Counter
    """On-demand fetches that shared the in-flight read of another call, rows."""
    out_of_range: Counter
    """Indices out of range, served as row 0 (``bounds_check_mode="warning"``)."""
    waited_ns: Counter
    """Nanoseconds that calls waited for the slow tier, summed over threads. If rows are read in
    place: their time beyond that of copies in the fast tier."""
    accesses_dropped: Counter
    """Accesses dropped because the ring of their thread was full. Neither the learned policy nor
    the recorder observed them. Counted since the rings were created."""
    kernels: str
    """The instruction set of the pooling kernels."""


@dataclasses.dataclass(frozen=True)
class Placement(Group):
    """NUMA placement of memory that was bound to a node."""

    node: int
    """NUMA node."""
    mode: str
    """"bind", "prefer", or "unbound" where the kernel refused."""
    pages: int
    """Pages of 4 KiB, counted at first touch."""
    pages_elsewhere: int | None
    """Pages on another node; None if the kernel does not report it."""
    refused: ErrorText
    """Error of the kernel when it refused to bind or to locate the memory; otherwise empty."""


@dataclasses.dataclass(frozen=True)
class FastTierStats(Group):
    """State of the fast tier, and rows that bypassed it."""

    bypassed: Counter
    """Rows fetched and not promoted to the fast tier."""
    resident_rows: int
    """Rows with a copy in the fast tier."""
    pinned_rows: int
    """Rows pinned by `Table.pin`."""
    resident_tables: int
    """Tables that lie in DRAM as a whole; their rows are resident."""
    index: str
    """"direct", "hash", or both where tables differ; empty if all tables are resident."""
    placement: Placement | None
    """Placement of the vectors, with `fast_node`."""


@dataclasses.dataclass(frozen=True)
class UpdateStats(Group):
    """Updates and write-backs."""

    updated_rows: Counter
    """Rows set by `Table.update`."""
    dirty_rows: int
    """Updated rows in the redo log before their write-back to pages."""
    unsynced_bytes: int
    """Bytes of the redo log that a power cut would lose."""
    write_backs: Counter
    """Rows written back from the redo log to pages."""
    write_back_errors: Counter
    """Write-backs that failed."""
    page_errors: Counter
    """Reads of damaged pages."""
    write_back_error: ErrorText
    """Text of the last failed write-back or sync; empty after a later one succeeded."""


@dataclasses.dataclass(frozen=True)
class DramStats(Group):
    """DRAM in use, bytes."""

    vector_bytes: int
    """Slots of the fast tier. Vectors, index, metadata and orders together are the budget
    `fast_bytes`."""
    index_bytes: int
    """The index of rows to slots."""
    metadata_bytes: int
    """Metadata of slots and of simple policies."""
    order_bytes: int
    """Maps from rows to places, of tables with an order."""
    log_bytes: int
    """Redo log: values and index of updated rows before their write-back."""
    staging_bytes: int
    """Buffers of reads."""
    access_ring_bytes: int
    """Access rings of a learned policy or a recorder."""
    policy_bytes: int
    """A learned policy's memory, beyond the budget."""
    page_cache_bytes: int
    """The kernel's page cache of the file, and of redo log bytes that are not synced."""
    total_bytes: int
    """Sum of the above."""
    huge_page_bytes: int
    """The part of the vectors in huge pages."""


@dataclasses.dataclass(frozen=True)
class SlowTierStats(Group):
    """The slow tier."""

    kind: str
    """"file", "checkpoint", or the kind of memory."""
    path: str
    """The file, the files of a checkpoint as they were given, or the name of the memory."""
    engine: str
    """Engine of the reads, with "(O_DIRECT)" if they bypass the page cache, otherwise "(buffered)",
    with the reason if direct I/O needs larger blocks."""
    bytes: int
    """Size."""
    is_emulated: bool
    """Whether latency is added to ordinary memory."""
    placement: Placement | None
    """Placement of memory on a NUMA node."""
    huge_page_bytes: int
    """The part of memory in huge pages."""
    extra_ns: float
    """Emulated extra latency per cache line, nanoseconds; 0 unless `is_emulated`."""
    overlap: int | None
    """Cache lines whose extra latencies overlap; None unless `is_emulated`."""


@dataclasses.dataclass(frozen=True)
class PromotionStats(Group):
    """Promotion to the fast tier of rows that are read in place."""

    rule: str
    """"auto", "always" or "never"."""
    is_active: bool
    """Whether rows are currently promoted and looked up in the fast tier."""
    probes: Counter
    """A/B probes of lookups with and without copies."""
    lookup_ns_with_copies: float | None
    """Time of a lookup with copies in the last probe, nanoseconds; None before the first."""
    lookup_ns_in_place: float | None
    """Time of a lookup without copies in the last probe, nanoseconds; None before the first."""
    copy_ns: float | None
    """Time to copy a row, nanoseconds; None before the first copy."""
    slow_line_ns: float
    """Time to read a cache line of a random row in the slow tier at opening, nanoseconds."""
    fast_line_ns: float
    """The same in the fast tier."""
    cost_ratio: float
    """`slow_line_ns` ÷ `fast_line_ns`."""


@dataclasses.dataclass(frozen=True)
class PolicyLag(Group):
    """Accesses between an access and the end of the policy step that observed it."""

    mean: float
    """Mean, accesses."""
    max: int
    """Maximum, accesses."""


@dataclasses.dataclass(frozen=True)
class PolicyPrefetchStats(Group):
    """Prefetching by a learned policy."""

    is_throttled: bool
    """Whether prefetching is throttled, because its cost exceeded its benefit."""
    throttles: Counter
    """Times that prefetching was throttled."""
    scored: Counter
    """Candidates that the prefetch model scored."""
    chosen: Counter
    """Rows prefetched."""
    used: Counter
    """Prefetched rows used before their eviction."""
    displaced: FloatCounter
    """Estimated hits lost to prefetched rows."""
    calibration: float
    """Factor that corrects predicted probabilities."""


@dataclasses.dataclass(frozen=True)
class LearnedStats(Group):
    """A learned policy in one fast tier, since its start there."""

    active: State
    """The active policy: "learned", or the name of a simple policy."""
    network: str
    """Instruction set of the network's kernels, or "torch"."""
    observed: Counter
    """Accesses observed."""
    evaluations: Counter
    """Rows evaluated."""
    switches: Counter
    """Changes of the active policy."""
    sampled: Counter
    """Accesses sampled by the miniature simulations."""
    sample_rate: float
    """Share of rows in the miniature simulations."""
    prefetching: PolicyPrefetchStats
    miss_ratios: Mapping[str, float]
    """Estimated miss ratio by policy, from the miniature simulations; the learned one is last."""


@dataclasses.dataclass(frozen=True)
class PolicyStats(Group):
    """A learned policy, which runs in the background, since its start."""

    state: State
    """"running", "paused", "failed", or "waiting" for the tables of its training trace."""
    reason: ErrorText
    """Reason of another state than "running"; otherwise empty."""
    fallback: str
    """The simple policy that is active while this one is not."""
    steps: Counter
    """Steps of the background thread."""
    accesses_observed: Counter
    """Accesses observed."""
    cpu_seconds: FloatCounter
    """CPU time of the background thread, seconds."""
    policy_lag: PolicyLag
    pauses: Counter
    """Pauses by the cost-benefit controller."""
    saved_seconds: float
    """Waiting time saved in the last measured window, seconds."""
    spent_seconds: float
    """CPU time of the policy in the same window, seconds."""
    tiers: tuple[LearnedStats, ...]
    """Per fast tier; empty for a policy that is not a network of the core."""


@dataclasses.dataclass(frozen=True)
class TableStats(Group):
    """A table, and the calls on it; as of `StoreStats` where the names are equal."""

    lookups: Counter
    """Rows looked up: `hits` + `on_demand_fetches`."""
    hits: Counter
    """Rows found in the fast tier, or repeated in a call that fetched them."""
    on_demand_fetches: Counter
    """Distinct rows per call for which the call waited."""
    miss_ratio: float
    """`on_demand_fetches` ÷ `lookups`; 0 before the first."""
    on_demand_device_reads: Counter
    """Pages read for on-demand fetches."""
    on_demand_bytes: Counter
    """Bytes of these pages."""
    out_of_range: Counter
    """Indices out of range, served as row 0."""
    updated_rows: Counter
    """Rows set by `Table.update`."""
    rows: int
    """Rows of the table."""
    row_bytes: int
    """Bytes of a row."""
    bytes: int
    """Bytes in the slow tier, padding and checksums included."""
    is_resident: bool
    """Whether the table lies in DRAM as a whole."""


@dataclasses.dataclass(frozen=True)
class StoreStats(Group):
    """Statistics since the file was opened or `TieredStore.reset_stats` was called.

    They begin again with a switch to another file (`TieredStore.switch`).

    If rows are read in place, each read of a row is an on-demand fetch.
    """

    calls: Counter
    """Calls of `lookup` and `embedding_bag`."""
    lookups: Counter
    """Rows looked up: `hits` + `on_demand_fetches`."""
    hits: Counter
    """Rows found in the fast tier, or repeated in a call that fetched them."""
    on_demand_fetches: Counter
    """Distinct rows per call for which the call waited."""
    miss_ratio: float
    """`on_demand_fetches` ÷ `lookups`; 0 before the first."""
    evictions: Counter
    """Rows evicted from the fast tier."""
    prefetches_issued: Counter
    """Rows read by prefetches."""
    prefetches_useful: Counter
    """Prefetched rows used before their eviction."""
    prefetches_late: Counter
    """Prefetched rows looked up while in flight; also counted as on-demand fetches."""
    prefetches_useless: Counter
    """Prefetched rows evicted unused."""
    on_demand_device_reads: Counter
    """Pages read for on-demand fetches: a call reads each page once. Rows in memory are pages."""
    prefetch_device_reads: Counter
    """Pages read for prefetches."""
    prefetches_dropped: Counter
    """Rows not prefetched because the queue was full."""
    fast_rows: int
    """Capacity of the fast tier, rows."""
    policy: str
    """The policy of the store, as configured."""
    policy_stats: PolicyStats | None
    """Statistics of a learned policy; None for a simple policy."""
    tables: Mapping[str, TableStats]
    """Statistics by table, in order of creation."""
    lookup: LookupStats
    fast_tier: FastTierStats
    slow_tier: SlowTierStats
    promotion: PromotionStats | None
    """Promotion of rows that are read in place; None with a file."""
    updates: UpdateStats
    dram: DramStats
    latency: LatencyStats
    switches: int
    """Switches to another file (`TieredStore.switch`) since the store was opened."""
    background_cpus: tuple[int, ...]
    """CPUs that background threads are bound to; empty: any."""
