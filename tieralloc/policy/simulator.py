"""Run the core's simulator on an access stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tieralloc._bindings import Simulator

if TYPE_CHECKING:
    from tieralloc._bindings import PlannedModel
    from tieralloc.trace.stream import Stream

__all__ = ["run_simulator"]

_BATCH_SAMPLES = 1 << 14


def run_simulator(
    stream: Stream,
    policy: str | PlannedModel,
    capacity: int,
    *,
    report: Callable[[int], object] = lambda accesses: None,
    samples_per_call: int = 0,
    **options: Any,
) -> Simulator:
    """Simulate a policy on a stream; return the simulator with its counts.

    `report` is called after each batch with its number of accesses; other arguments as for
    `Simulator`.
    """
    simulator = Simulator(
        policy,
        capacity,
        stream.rows,
        table_starts=stream.table_starts,
        samples_per_call=samples_per_call,
        **options,
    )
    call_samples = max(samples_per_call, 1)
    batch_samples = call_samples * max(1, _BATCH_SAMPLES // call_samples)  # whole calls
    begin = 0
    for first in range(0, len(stream.lengths), batch_samples):
        lengths = stream.lengths[first : first + batch_samples]
        end = begin + int(lengths.sum())
        simulator.run(stream.accesses[begin:end], lengths)
        report(end - begin)
        begin = end
    return simulator
