"""Page mates: whether to admit the other rows of a page that is read for one row.

A page brings its other rows along at no read. Each admitted one takes a slot of the fast tier: in a
probationary segment, a sixteenth of the slots, until a lookup uses it. No store does this: no rule
avoids reads of S3-FIFO. Never accessed rows are not admitted: a trace has only rows that it
accesses at some time, so they would promise more than the rows of a real table.
"""

from __future__ import annotations

import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise, product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.policies import study
from bench.policies.study import Models, Record, Study
from bench.scenery.traces import COUNT_FROM
from tieralloc import trace as traces
from tieralloc._bindings import rows_per_page
from tieralloc.order import pages_of_rows
from tieralloc.tools.arrange import arrange
from tieralloc.trace import Trace
from tieralloc.trace.stream import Stream, count_distinct, fast_rows, first_counted

BATCH_SIZE = 32
DIM = 64
FRACTIONS = (0.05, 0.2)
PROBATION = 16  # slots of the tier per slot of the probationary segment
NONE = "admit none"

#: From the accesses of a row before, those since its last one ÷ slots, and the recent reads of its
#: page: whether to admit the row. `None`: only rows that are used within as many accesses as slots.
RULES: dict[str, Callable[[int, float, int], bool] | None] = {
    NONE: lambda times, since, reads: False,
    "all that were accessed before": lambda times, since, reads: times > 0,
    "popular: 6 accesses, the last one recent": lambda times, since, reads: times > 5 and since < 8,
    "popular, in a page read 4 times recently": lambda times, since, reads: times > 5 and reads > 3,
    "used soon (knows the future)": None,
}


class Lru:
    """Least recently used."""

    def __init__(self, slots: int) -> None:
        self._rows: OrderedDict[int, None] = OrderedDict()

    def insert(self, row: int) -> None:
        self._rows[row] = None

    def touch(self, row: int) -> None:
        self._rows.move_to_end(row)

    def evict(self) -> int:
        return self._rows.popitem(last=False)[0]


class S3Fifo:
    """S3-FIFO, as ``_core/eviction/s3fifo.cpp`` documents it, with an exact ghost queue."""

    def __init__(self, slots: int) -> None:
        self._small: OrderedDict[int, int] = OrderedDict()  # hits by row
        self._main: OrderedDict[int, int] = OrderedDict()
        self._ghosts: OrderedDict[int, None] = OrderedDict()
        self._small_target = max(1, slots // 10)
        self._main_target = slots - self._small_target
        self._max_ghosts = max(1, slots * 9 // 10)
        self._is_filling = True

    def insert(self, row: int) -> None:
        is_ghost = self._ghosts.pop(row, 0) is None
        while len(self._ghosts) > self._max_ghosts:
            self._ghosts.popitem(last=False)
        is_full = self._is_filling and len(self._small) >= self._small_target
        (self._main if is_ghost or is_full else self._small)[row] = 0

    def touch(self, row: int) -> None:
        queue = self._small if row in self._small else self._main
        queue[row] = min(queue[row] + 1, 3)

    def evict(self) -> int:
        self._is_filling = False
        while self._small and len(self._main) <= self._main_target:
            row, hits = self._small.popitem(last=False)
            if hits < 2:
                self._ghosts[row] = None
                return row
            self._main[row] = 0
        while True:
            row, hits = self._main.popitem(last=False)
            if hits == 0:
                return row
            self._main[row] = hits - 1


POLICIES: dict[str, type[Lru] | type[S3Fifo]] = {"lru": Lru, "s3fifo": S3Fifo}


@dataclass
class Tier:
    """Slots of a policy, and of a probationary segment of page mates."""

    slots: int
    policy: Lru | S3Fifo
    resident: set[int] = field(default_factory=set)
    mates: OrderedDict[int, None] = field(default_factory=OrderedDict)

    def touch(self, row: int) -> bool:
        """Look up a row; False if it is missing."""
        if row in self.mates:
            del self.mates[row]
            self.resident.add(row)
            self.policy.insert(row)
        elif row in self.resident:
            self.policy.touch(row)
        else:
            return False
        return True

    def insert(self, row: int) -> None:
        self._make_room()
        self.resident.add(row)
        self.policy.insert(row)

    def insert_mate(self, row: int) -> None:
        if len(self.mates) >= max(1, self.slots // PROBATION):
            self.mates.popitem(last=False)
        self._make_room()
        self.mates[row] = None

    def _make_room(self) -> None:
        while len(self.resident) + len(self.mates) >= self.slots:
            if not self.resident:
                self.mates.popitem(last=False)
                return
            self.resident.remove(self.policy.evict())


def device_reads(stream: Stream, pages: NDArray[np.uint32], tier: Tier, rule: str, at: int) -> int:
    """Return the pages that requests read from access `at` on."""
    admits = RULES[rule]
    row_lists = _rows_by_page(pages)
    page_of, accesses = pages.tolist(), stream.accesses.tolist()
    ends = np.cumsum(stream.lengths)
    bounds = [0, *ends[BATCH_SIZE - 1 :: BATCH_SIZE].tolist(), len(accesses)]
    next_uses = _NextUses(accesses) if admits is None else None
    times, last = [0] * len(page_of), [0] * len(page_of)
    recent: deque[list[int]] = deque()
    recent_reads = [0] * len(row_lists)
    num_recent = total = 0
    for begin, end in pairwise(bounds):
        missed = [row for row in accesses[begin:end] if not tier.touch(row)]
        read = list(dict.fromkeys(page_of[row] for row in missed))
        total += len(read) if begin >= at else 0
        for row in dict.fromkeys(missed):
            tier.insert(row)
        for row in accesses[begin:end]:
            times[row] += 1
            last[row] = end
        for page in read:
            recent_reads[page] += 1
        recent.append(read)
        num_recent += len(read)
        while num_recent > tier.slots:
            for page in recent.popleft():
                recent_reads[page] -= 1
                num_recent -= 1
        if rule == NONE:
            continue
        for page in read:
            for row in row_lists[page]:
                if row in tier.resident or row in tier.mates:
                    continue
                if admits is None:
                    assert next_uses is not None
                    is_admitted = next_uses.after(row, end) < end + tier.slots
                else:
                    since = (end - last[row]) / tier.slots
                    is_admitted = admits(times[row], since, recent_reads[page])
                if is_admitted:
                    tier.insert_mate(row)
    return total


def _rows_by_page(pages: NDArray[np.uint32]) -> list[list[int]]:
    order = np.argsort(pages, kind="stable")
    ends = np.cumsum(np.bincount(pages))
    return [part.tolist() for part in np.split(order, ends[:-1])]


class _NextUses:
    def __init__(self, accesses: list[int]) -> None:
        self._uses: dict[int, deque[int]] = {}
        for position, row in enumerate(accesses):
            self._uses.setdefault(row, deque()).append(position)

    def after(self, row: int, position: int) -> float:
        """Return the row's next use from `position` on; positions ascend."""
        uses = self._uses.get(row, deque())
        while uses and uses[0] < position:
            uses.popleft()
        return uses[0] if uses else float("inf")


def orders(trace: Trace) -> dict[str, NDArray[np.uint32]]:
    """Return the page of each row, by the order of the rows in the file."""
    in_page = rows_per_page(DIM, "float32")
    learned = arrange(trace, in_page, COUNT_FROM)
    return {
        "ids": pages_of_rows(trace, in_page),
        "learned": pages_of_rows(trace, in_page, learned),
    }


def measure(case: str, path: Path, models: Models) -> Iterator[Record]:
    """Count the device reads of a rule, relative to none, in the second half of a trace."""
    trace = traces.read(path)
    stream = Stream.of(trace)
    counted = first_counted(len(stream.accesses), COUNT_FROM)
    distinct = count_distinct(stream.accesses, stream.rows)
    for (order, pages), policy, fraction in product(orders(trace).items(), POLICIES, FRACTIONS):
        slots = fast_rows(fraction, distinct)
        reads = [
            device_reads(stream, pages, _tier(policy, slots, rule), rule, counted)
            for rule in (case, NONE)
        ]
        yield {
            **{"order": order, "policy": policy, "fast_fraction": fraction},
            **{"device_reads": reads[0], "ratio": reads[0] / max(1, reads[1])},
        }


def _tier(policy: str, slots: int, rule: str) -> Tier:
    taken = 0 if rule == NONE else slots // PROBATION
    return Tier(slots, POLICIES[policy](slots - taken))


STUDY = Study(
    "page_mates",
    f"Device reads of requests of {BATCH_SIZE} samples, rows of {DIM} x float32, in the second"
    " half of each trace ÷ those without admission of page mates.",
    measure,
    lambda record: f"{record['ratio']:.3f}",
    cases=tuple(RULES),
    columns=("trace", "order", "policy", "fast_fraction"),
    policies=(),
)

if __name__ == "__main__":
    sys.exit(study.main(STUDY, __doc__))
