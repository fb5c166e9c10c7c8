"""The CPU time of whole replays, compared with 3L-Cache of libcachesim.

Each turn replays the same accesses once per policy: ours by `simulate`, those of libcachesim
natively from an oracleGeneral file. The figure is the median over the turns of the CPU time of the
process. It excludes loading policies and constructing caches; ours includes what `simulate` does
first, listing accesses and counting rows, and theirs reading the file.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import mean, median

from bench.policies import libcachesim_caches, study
from bench.policies.study import Models, Record, Study
from bench.scenery.traces import FAST_FRACTIONS
from bench.scenery.turns import alternate
from tieralloc import trace as traces
from tieralloc.policy.registry import with_learned
from tieralloc.policy.trained import TrainedPolicy
from tieralloc.tools.simulate import simulate

BASELINE, CHECK = "3L-Cache", "lru of libcachesim"
#: Classes of libcachesim.
NATIVE = {BASELINE: "ThreeLCache", CHECK: "LRU"}
SIMPLE = ("lru", "s3fifo")
LEARNED = ("recmg-caching", "recmg")
TURNS = 3

#: Returns CPU seconds, and the miss ratio of all accesses.
Replay = Callable[[int], tuple[float, float]]


def replay_native(kind: str, file: Path, rows: int, turn: int = 0) -> tuple[float, float]:
    """Replay an oracleGeneral file, with objects of size 1, through a cache of libcachesim."""
    import libcachesim

    # The default table of 2^24 buckets mostly costs page faults; LRU takes 4 times as long with it.
    cache = getattr(libcachesim, kind)(cache_size=rows, hashpower=max(16, rows.bit_length() + 1))
    reader = libcachesim.TraceReader(str(file), libcachesim.TraceType.ORACLE_GENERAL_TRACE)
    began = time.process_time()
    miss_ratio, _ = cache.process_trace(reader)
    return time.process_time() - began, miss_ratio


def replay_ours(
    made: traces.Trace, policy: str | TrainedPolicy, fraction: float, turn: int = 0
) -> tuple[float, float]:
    """Replay a trace in the simulator."""
    began = time.process_time()
    (record,) = simulate(made, [policy], [fraction], count_from=0)
    return time.process_time() - began, record["miss_ratio"]


def measure(case: str, path: Path, models: Models) -> Iterator[Record]:
    """Replay a trace under each policy in turn, at each capacity."""
    if (refusal := libcachesim_caches.refusal()) is not None:
        raise RuntimeError(refusal)
    made = traces.read(path)
    policies = with_learned([*SIMPLE, *(f"{name}:{models['recmg']}" for name in LEARNED)])
    with tempfile.TemporaryDirectory(prefix="tieralloc-cost-") as temporary:
        file = Path(temporary) / "trace.oracleGeneral"
        traces.write(made, file)
        for expected in simulate(made, ["lru"], FAST_FRACTIONS, count_from=0):
            fraction, rows = expected["fast_fraction"], expected["fast_rows"]
            replays: dict[str, Replay] = {
                label: partial(replay_native, kind, file, rows) for label, kind in NATIVE.items()
            }
            for label, policy in zip((*SIMPLE, *LEARNED), policies, strict=True):
                replays[label] = partial(replay_ours, made, policy, fraction)
            turns = alternate(f"{made.name} {fraction:.0%}", TURNS, replays)
            _check(made, expected, turns[CHECK][0][1])
            seconds = {label: median(each for each, _ in pairs) for label, pairs in turns.items()}
            for label in replays:
                yield {
                    "case": label,
                    "fast_fraction": fraction,
                    "us_per_access": 1e6 * seconds[label] / made.num_lookups,
                    "to_baseline": seconds[label] / seconds[BASELINE],
                }


def _check(made: traces.Trace, expected: Record, miss_ratio: float) -> None:
    """Raise ValueError if the miss ratios of LRU in libcachesim and here differ."""
    if abs(miss_ratio - expected["miss_ratio"]) * made.num_lookups > 0.5:
        raise ValueError(
            f"{made.name} at {expected['fast_rows']} rows: LRU of libcachesim and ours differ;"
            f" expected miss ratio {expected['miss_ratio']}, got {miss_ratio}"
        )


def _summary(records: Sequence[Record]) -> str:
    ratios: dict[str, list[float]] = {}
    for record in records:
        ratios.setdefault(record["case"], []).append(record["to_baseline"])
    return "\n".join(
        f"- {label} ÷ {BASELINE}: mean {mean(each):.3f}, max {max(each):.3f}"
        for label, each in ratios.items()
        if label != BASELINE
    )


STUDY = Study(
    "cost",
    f"CPU µs per access of a whole replay; in brackets ÷ {BASELINE}.",
    measure,
    lambda record: f"{record['us_per_access']:.3f} ({record['to_baseline']:.3f})",
    processes=1,
    summary=_summary,
)

if __name__ == "__main__":
    sys.exit(study.main(STUDY, __doc__))
