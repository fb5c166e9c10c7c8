"""Runs the core's simulator on a stream of accesses."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tieralloc._bindings import Simulator

if TYPE_CHECKING:
    from tieralloc._bindings import PlannedModel
    from tieralloc.trace.stream import Stream

__all__ = ["run_simulator"]

_PIECE = 1 << 14  # samples


def run_simulator(
    stream: Stream,
    policy: str | PlannedModel,
    capacity: int,
    *,
    report: Callable[[int], object] = lambda accesses: None,
    samples_per_call: int = 0,
    **options: Any,
) -> Simulator:
    """Simulate a policy on a stream; return the simulator, which has the counts.

    Parameters
    ----------
    stream : Stream
        What to replay.
    policy, capacity, samples_per_call, options
        As `Simulator` takes them.
    report : callable
        Called with the number of accesses just replayed.
    """
    simulator = Simulator(
        policy,
        capacity,
        stream.rows,
        table_starts=stream.table_starts,
        samples_per_call=samples_per_call,
        **options,
    )
    piece = max(samples_per_call, 1) * max(1, _PIECE // max(samples_per_call, 1))
    begin = 0
    for first in range(0, len(stream.lengths), piece):
        lengths = stream.lengths[first : first + piece]
        end = begin + int(lengths.sum())
        simulator.run(stream.accesses[begin:end], lengths)
        report(end - begin)
        begin = end
    return simulator
