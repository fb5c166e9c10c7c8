"""What an order gains on lookups that it was not learned from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tieralloc._common.progress import Progress, silent
from tieralloc.order import Order, pages_of_rows
from tieralloc.policy.simulator import run_simulator
from tieralloc.tools.arrange.learn import arrange
from tieralloc.trace import Trace
from tieralloc.trace.stream import Stream, count_distinct, fast_rows

__all__ = ["Summary", "summarise", "summary_text"]

_FAST_FRACTION = 0.05
_LEARNED = 0.8  # of the lookups to learn from; the summary counts the others


@dataclass(frozen=True)
class Summary:
    """Device reads of a request in tables without and with an order."""

    before: float
    after: float
    batch_size: int


def summarise(
    trace: Trace,
    rows_per_page: int,
    until: float,
    batch_size: int,
    *,
    progress: Progress = silent,
    **settings: Any,
) -> Summary:
    """Learn from four fifths of the first lookups, and count the device reads of the last fifth.

    The fast tier is LRU, of 5 % of the rows of the trace, without the DRAM of the map.
    """
    learned = arrange(trace, rows_per_page, until * _LEARNED, progress=progress, **settings)
    end = len(Stream.of(trace, until).accesses)
    held_back = trace.samples(0, max(1, trace.sample_of_access(end)))
    first = len(Stream.of(trace, until * _LEARNED).accesses)
    capacity = fast_rows(
        _FAST_FRACTION, count_distinct(trace.accesses(), sum(trace.num_embeddings))
    )
    reads = []
    with progress("counting device reads", 2 * held_back.num_lookups, "accesses") as report:
        for order in (None, learned):
            pages = pages_of_rows(trace, rows_per_page, order)
            counts = run_simulator(
                Stream.of(held_back),
                "lru",
                capacity,
                count_from=first,
                samples_per_call=batch_size,
                pages=pages,
                report=report,
            ).counts
            reads.append(counts["on_demand_device_reads"] / max(1, counts["calls"]))
    return Summary(reads[0], reads[1], batch_size)


def summary_text(trace: Trace, order: Order, summary: Summary) -> str:
    """Return the summary as lines of text."""
    rows = sum(len(table.rows) for table in order.tables.values())
    pages = sum(len(table.page_lengths) for table in order.tables.values())
    dram = sum(order.row_order(name).bytes for name in order.tables)
    ratio = summary.after / summary.before if summary.before else 1.0
    return (
        f"{trace.name}: {rows:,} of {int(trace.num_embeddings.sum()):,} rows share {pages:,} pages "
        f"by choice; the map takes {dram:,} bytes of DRAM\n"
        f"Device reads per request of {summary.batch_size} samples, LRU of 5 % of the rows, on the "
        f"last fifth, learned from the others: {summary.before:.1f} before, {summary.after:.1f} "
        f"after ({ratio:.0%})"
    )
