"""Stores under the same DRAM at a glance: rows a second and p99 of a request, and their chart.

`python -m bench.glance` measures and keeps `bench/results/glance.json`; `--draw` draws
`docs/glance.png` from the kept result. A request looks up 32 bags of 20 rows. The stores take
turns; each turn has other requests, drawn from the same distribution.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from bench.peers.experiment import Experiment
from bench.peers.in_dram import Tieralloc, Torch
from bench.peers.on_disk import Memmap, PythonLru, RocksDb
from bench.peers.settings import FULL, QUICK
from bench.scenery import arguments
from bench.scenery.about import about
from bench.scenery.results import read_json, write_json
from bench.scenery.turns import Spread, alternate, percentile

FAST_FRACTION = 0.05
RESULT = Path(__file__).parent / "results" / "glance.json"
CHART = Path(__file__).parents[1] / "docs" / "glance.png"
_SETTINGS = replace(
    FULL,
    rows=1_000_000,
    bags=32,
    turns=3,
    slow_seconds=1.0,
    warm_seconds=4.0,
    warm_batches=4000,
    segment_batches=2500,
)
#: Labels of the chart, by the name of the adapter.
_LABELS = {
    "numpy.memmap": "numpy.memmap, 5 % DRAM",
    "RocksDB": "RocksDB, 5 % DRAM",
    "Python LRU, O_DIRECT pread": "Python LRU, 5 % DRAM",
    "tieralloc": "tieralloc, 5 % DRAM",
    "torch": "torch, all in DRAM",
}


def main(given: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if given is None else list(given)
    parser = arguments.make_parser("glance", __doc__, models=False, disk=True, show=False)
    parser.add_argument("--draw", action="store_true", help="draw the chart of the kept result")
    options = parser.parse_args(given)
    if options.draw:
        draw(read_json(RESULT) or {}, CHART)
        return 0
    settings = replace(QUICK, bags=4) if options.quick else _SETTINGS
    with tempfile.TemporaryDirectory(prefix="tieralloc-glance-", dir=options.dir) as directory:
        experiment = Experiment(settings, Path(directory), arguments.TRACES)
        result = {
            **about(arguments.public_command("glance", given), Path(directory)),
            "settings": asdict(settings),
            "fast_fraction": FAST_FRACTION,
            "records": measure(experiment),
            "refused": experiment.refused,
        }
    for record in result["records"]:
        print(record)
    for name, reason in experiment.refused.items():
        print(f"left out: {name}: {reason}")
    out = arguments.out_directory(options)
    if out is not None:
        write_json(out / RESULT.name, result)
    return 0


def measure(experiment: Experiment) -> list[dict[str, Any]]:
    """Return a record for each store: rows a second, and p99 of all its requests."""
    (workload,) = experiment.workloads("a")
    dataset, settings = experiment.dataset(workload), experiment.settings
    budget = int(dataset.rows * FAST_FRACTION) * dataset.row_bytes
    limited, whole = (Memmap, RocksDb, PythonLru, Tieralloc), (Torch,)
    with (
        experiment.adapters(limited, workload, budget) as first,
        experiment.adapters(whole, workload) as last,
    ):
        adapters = [*first, *last]
        for adapter in adapters:
            adapter.warm(settings.warm_seconds)
        serve = {a.name: partial(a.serve, seconds=settings.slow_seconds) for a in adapters}
        turns = alternate("glance", settings.turns, serve)
        records = []
        for adapter in adapters:
            latencies = [second for served in turns[adapter.name] for second in served.latencies]
            speeds = [served.rows_per_second for served in turns[adapter.name]]
            records.append(
                {
                    "store": adapter.name,
                    "rows_per_second": Spread.of(speeds),
                    "p99_ms": percentile(latencies, 99) * 1e3,
                    "requests": len(latencies),
                    "dram_bytes": adapter.dram_bytes(),
                }
            )
    return records


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw rows a second and p99 of each store, on logarithmic axes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    records = {_LABELS[record["store"]]: record for record in result["records"]}
    labels = [label for label in reversed(_LABELS.values()) if label in records]
    colors = ["#d1495b" if label.startswith("tieralloc") else "#8d99ae" for label in labels]
    rows = [records[label]["rows_per_second"]["median"] for label in labels]
    p99 = [records[label]["p99_ms"] for label in labels]
    figure, axes = pyplot.subplots(2, 1, figsize=(6.4, 4.4), layout="constrained")
    for axis, values, title, texts in (
        (
            axes[0],
            rows,
            "rows a second (log scale): more is better",
            [_thousands(value) for value in rows],
        ),
        (
            axes[1],
            p99,
            "p99 of a request, ms (log scale): less is better",
            [f"{value:.3g}" for value in p99],
        ),
    ):
        bars = axis.barh(labels, values, color=colors)
        axis.bar_label(bars, texts, padding=3, fontsize=9)
        axis.set_xscale("log")
        axis.set_xlim(min(values) / 3, max(values) * 6)
        axis.set_title(title, fontsize=10)
        axis.xaxis.set_visible(False)
        axis.spines[["top", "right", "bottom"]].set_visible(False)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def _thousands(value: float) -> str:
    return f"{value / 1e6:.1f} M" if value >= 1e6 else f"{value / 1e3:.0f} k"


if __name__ == "__main__":
    sys.exit(main())
