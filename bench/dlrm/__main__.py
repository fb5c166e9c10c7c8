"""The command: `python -m bench.dlrm` serves, prints the tables and writes them."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.dlrm import tables
from bench.dlrm.baselines import BASELINES, FEW, LRU, SHORT
from bench.dlrm.model import refusal
from bench.dlrm.requests import Requests
from bench.dlrm.scene import Record, Scene
from bench.dlrm.settings import FULL, QUICK, Settings, placements
from bench.scenery import arguments
from bench.scenery.about import about
from bench.scenery.results import rounded, to_columns, write_json
from bench.scenery.traces import COUNT_FROM, FAST_FRACTIONS, choose_traces
from bench.scenery.trained import train
from tieralloc import trace
from tieralloc._bindings import rows_per_page
from tieralloc._common.progress import bar
from tieralloc.tools.arrange import arrange


def main(given: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if given is None else list(given)
    parser = arguments.make_parser("dlrm", __doc__, only=list(BASELINES), disk=True)
    options = parser.parse_args(given)
    if options.show:
        print(tables.markdown(arguments.read_result(options, "dlrm")))
        return 0
    lacking = refusal()
    if lacking is not None:
        print(f"skipped: {lacking}")
        return 0 if options.quick else 1
    os.environ["OMP_NUM_THREADS"] = "1"  # for child processes: requests are small
    settings = QUICK if options.quick else FULL
    command = arguments.public_command("dlrm", given)
    with tempfile.TemporaryDirectory(prefix="tieralloc-dlrm-", dir=options.dir) as temporary:
        content = _measure(options, settings, command, Path(temporary))
    print(f"\n{tables.markdown(rounded(content))}")
    out = arguments.out_directory(options)
    if out is not None:
        write_json(out / "dlrm.json", content)
    return 1 if content["refused"] else 0


def _measure(
    options: argparse.Namespace, settings: Settings, command: str, directory: Path
) -> dict[str, Any]:
    records: list[Record] = []
    content: dict[str, Any] = {
        "title": "A DLRM served end to end",
        **about(command, directory),
        "settings": asdict(settings),
        "refused": {},
        "others_busy_cores": 0.0,
        "score_differences_of_int8": {},
    }
    labels = [label for label in options.only if label in FEW or not options.quick]
    samples = settings.num_samples
    paths = choose_traces(options.traces, directory, quick=options.quick, num_samples=samples)
    for path in paths:
        requests = Requests(trace.read(path), settings)
        models = directory / "models" if options.quick else options.models
        fractions = FAST_FRACTIONS if settings.epochs is None else settings.fast_fractions
        policies = {
            policy: train(
                requests.trace, policy, models, fast_fractions=fractions, epochs=settings.epochs
            )[0]
            for policy in dict.fromkeys(BASELINES[label].trained for label in labels)
            if policy
        }
        dtypes = {BASELINES[label].dtype for label in labels if BASELINES[label].is_arranged}
        orders = {dtype: learn_order(requests, dtype, directory) for dtype in sorted(dtypes)}
        places = placements(sorted(os.sched_getaffinity(0)))
        for cores in places[:1] if options.quick else places:
            for fraction in settings.fast_fractions:
                scene = Scene(requests, fraction, cores, policies, orders, directory)
                _measure_scene(scene, labels, settings, records)
                if scene.score_difference:
                    differences = content["score_differences_of_int8"]
                    differences[requests.trace.name] = scene.score_difference
                for label, why in scene.failed.items():
                    content["refused"][f"{label}, {scene.name}"] = why
                busy = max(content["others_busy_cores"], scene.others_busy_cores)
                content["others_busy_cores"] = busy
    return {**content, **to_columns(records)}


def learn_order(requests: Requests, dtype: str, directory: Path) -> Path:
    """Learn an order of rows of a dtype on the first half of a trace; return its file."""
    path = directory / f"{requests.trace.name}-{dtype}.order.npz"
    rows_in_page = rows_per_page(requests.settings.embedding_dim, dtype)
    arrange(requests.trace, rows_in_page, COUNT_FROM, progress=bar).write(path)
    return path


def _measure_scene(
    scene: Scene, labels: Sequence[str], settings: Settings, records: list[Record]
) -> None:
    """Measure a closed loop, and open loops at shares of the rate that LRU achieved."""
    short = [label for label in labels if label in SHORT]
    is_first = scene.fraction == settings.fast_fractions[0]
    closed = scene.measure(labels if is_first else short, None)
    records += closed
    for record in closed:
        print(f"{scene.name}: {record['policy']}: {record['achieved_rate']:,.0f} requests/s")
    sys.stdout.flush()
    lru = [record["achieved_rate"] for record in closed if record["policy"] == LRU]
    if is_first and lru:
        for share in settings.load_shares:
            records += scene.measure(short, share * lru[0])


if __name__ == "__main__":
    sys.exit(main())
