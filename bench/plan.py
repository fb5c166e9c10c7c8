"""A plan beside a replay: predicted and measured miss ratios and latencies at three budgets.

`python -m bench.plan` plans a trace and replays it, in turns: each plan measures calls on the disk.
The loop is closed at three budgets, and open at one. Latencies are medians of the turns, and their
ratios are predicted ÷ measured. Miss ratios are also predicted from a sample of the accesses, and
from the first half of the trace, as for a day that is yet to come. The kept result has the traces
of all runs.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.scenery import arguments
from bench.scenery.about import about
from bench.scenery.results import from_columns, read_json, rounded, to_columns, write_json
from bench.scenery.tables import markdown, number
from bench.scenery.traces import choose_traces
from tieralloc import trace as traces
from tieralloc.tools.plan.curve import Curve, Workload
from tieralloc.tools.plan.plan import plan
from tieralloc.tools.replay.replay import replay

POLICY = "s3fifo"
FRACTIONS = (0.01, 0.05, 0.2)
OPEN_FRACTION = 0.05
RATE = 200.0
ARRIVAL_SECONDS = 5.0
BATCH_SIZE = 32
DIM = 64
TURNS = 3
SECONDS = 2.0
_LOAD: dict[str, Any] = {"embedding_dim": DIM, "batch_size": BATCH_SIZE}
_NAME = "plan"


def main(given: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if given is None else list(given)
    parser = arguments.make_parser(_NAME, __doc__, models=False, disk=True)
    options = parser.parse_args(given)
    if options.show:
        show(from_columns(arguments.read_result(options, _NAME)))
        return 0
    with tempfile.TemporaryDirectory(prefix="tieralloc-plan-", dir=options.dir) as name:
        directory = Path(name)
        paths = choose_traces(options.traces, directory, quick=options.quick, num_samples=1 << 12)
        records = [
            record
            for path in paths
            for record in measure(traces.read(path), directory, 1 if options.quick else TURNS)
        ]
    records = rounded(records)
    out = arguments.out_directory(options)
    if out is not None:
        records = _with_others(out / f"{_NAME}.json", records)
        head = about(arguments.public_command(_NAME, given), options.dir)
        write_json(out / f"{_NAME}.json", {**head, **to_columns(records)})
    show(records)
    return 0


def _with_others(path: Path, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add the records of traces that were not measured now."""
    now = {record["trace"] for record in records}
    kept = read_json(path)
    others = [] if kept is None else [r for r in from_columns(kept) if r["trace"] not in now]
    return sorted([*others, *records], key=lambda record: str(record["trace"]))


def show(records: Sequence[dict[str, Any]]) -> None:
    head = list(dict.fromkeys(key for record in records for key in record))
    rows = [[_cell(record.get(key)) for key in head] for record in records]
    print(f"\n{markdown([key.replace('_', ' ') for key in head], rows)}")


def _cell(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or "-"
    return f"{value:.4f}" if value < 1 else number(value)


def measure(trace: traces.Trace, directory: Path, turns: int) -> list[dict[str, Any]]:
    """Return a record per budget, and one of the open loop."""
    counts = {fraction: _miss_ratios(trace, fraction) for fraction in FRACTIONS}
    loads = [(fraction, None) for fraction in FRACTIONS] + [(OPEN_FRACTION, RATE)]
    pairs: dict[tuple[float, float | None], list[tuple[Any, Any]]] = {load: [] for load in loads}
    for _ in range(turns):
        for rate in (None, RATE):
            fractions = FRACTIONS if rate is None else (OPEN_FRACTION,)
            common: dict[str, Any] = {**_LOAD, "directory": directory}
            made = plan(
                trace, [POLICY], fast_fractions=fractions, rate=rate, seconds=SECONDS, **common
            )
            rates = None if rate is None else [rate]
            served = replay(
                trace, [POLICY], fractions, rates=rates, seconds=ARRIVAL_SECONDS, **common
            )
            for fraction, predicted, measured in zip(fractions, made.records, served, strict=True):
                pairs[fraction, rate].append((predicted, measured))
    return [
        {
            "trace": trace.name,
            "fast_fraction": fraction,
            **({} if rate is None else {"rate": rate}),
            **(_compared(pairs[fraction, rate])),
            **(counts[fraction] if rate is None else {}),
        }
        for fraction, rate in loads
    ]


def _compared(pairs: Sequence[tuple[Any, Any]]) -> dict[str, Any]:
    """Return the predicted and measured figures of the turns of a load."""
    found: dict[str, Any] = {
        "miss_ratio": pairs[0][1]["miss_ratio"],
        "predicted": pairs[0][0]["miss_ratio"],
    }
    for name in ("p50", "p99"):
        latencies = [
            (predicted["latency_us"][name], measured["latency_us"][name])
            for predicted, measured in pairs
            if name in measured["latency_us"] and predicted["latency_us"][name] is not None
        ]
        if latencies:
            found[f"{name}_us"] = float(np.median([measured for _, measured in latencies]))
            found[f"{name}_ratio"] = float(np.median([a / b for a, b in latencies]))
    return found


def _miss_ratios(trace: traces.Trace, fraction: float) -> dict[str, float]:
    """Return miss ratios predicted from slices of the accesses, and from the first half alone."""
    workload = Workload.of(trace, BATCH_SIZE, DIM, "float32", 0.5)
    rows = int(fraction * len(np.unique(workload.stream.accesses)))
    (sampled,) = Curve(workload, POLICY, 1.0, min_accesses=1 << 18).points([rows])
    half = trace.samples(0, workload.first_sample)
    past = Workload.of(half, BATCH_SIZE, DIM, "float32", 0.5)
    (of_past,) = Curve(past, POLICY, 1.0).points([rows])
    return {
        "sampled": sampled.miss_ratio,
        "sampled_error": sampled.miss_ratio_error,
        "from_first_half": of_past.miss_ratio,
    }


if __name__ == "__main__":
    sys.exit(main())
