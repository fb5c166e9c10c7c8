"""The scenarios, one module each; scenario 7 is an option of `tieralloc replay`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from bench.peers.experiment import Experiment
from bench.peers.results import Result
from bench.peers.scenarios import hits, interference, mixed, on_demand, quantised, scale


class Scenario(NamedTuple):
    """A numbered comparison, with the function that measures it."""

    number: int
    title: str
    run: Callable[[Experiment], Iterable[Result]]


#: By the names of `--only`.
SCENARIOS = {
    "hits": Scenario(1, "Hits: all rows resident, rows/s ÷ torch with all in DRAM", hits.run),
    "on-demand": Scenario(2, "On-demand fetches: lookups that all miss a cold file", on_demand.run),
    "mixed": Scenario(3, "Mixed: rows/s and p99 ÷ the best baseline of the same DRAM", mixed.run),
    "interference": Scenario(
        4, "Interference: p99 of hits, open loop, background work ÷ idle", interference.run
    ),
    "threads": Scenario(5, "Threads: rows/s of lookup threads ÷ one, all resident", hits.threads),
    "scale": Scenario(6, "Scale: sparse tables of any size, with the same fast rows", scale.run),
    "quantised": Scenario(8, "Rows of int8: all resident, rows/s ÷ others", quantised.run),
}
