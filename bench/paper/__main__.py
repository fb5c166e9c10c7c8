"""The command: `python -m bench.paper` trains, tunes, compares, and writes docs/results.md.

It measures recorded traces and a generated one, keeps ``bench/results/paper.json``, and lays out
the page and its plots from that file.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.paper.measure import Setting, measure
from bench.paper.page import markdown_page
from bench.scenery.about import about
from bench.scenery.arguments import (
    QUICK_NOTE,
    RESULTS,
    TRACES,
    make_parser,
    out_directory,
    public_command,
)
from bench.scenery.processes import ChildFailedError, Job, run_jobs
from bench.scenery.results import (
    from_columns,
    read_json,
    rounded,
    to_columns,
    write_json,
    write_text,
)
from bench.scenery.traces import FAST_FRACTIONS, traces_in
from tieralloc import trace as traces
from tieralloc.tools.machine import core_count
from tieralloc.tools.plots.records import plot

DOCS = Path(__file__).parents[2] / "docs"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(given)
    out = out_directory(options)
    if options.page:
        content = read_json((out or RESULTS) / "paper.json")
    else:
        content = _measure(options, given)
        if content is None:
            return 1
        if out is not None:
            write_json(out / "paper.json", content)
    if out is None:
        print(markdown_page(content, {}))
        return 0
    docs = options.out or DOCS
    write_text(docs / "results.md", markdown_page(content, _draw(content, docs)))
    print(f"written: {docs / 'results.md'}")
    return 0


def _measure(options: argparse.Namespace, given: Sequence[str]) -> dict[str, Any] | None:
    """Measure all traces; return the content of the result file, None if a job failed."""
    with tempfile.TemporaryDirectory(prefix="tieralloc-paper-") as temporary:
        scratch = Path(temporary)
        setting = Setting(FAST_FRACTIONS, options.models)
        if options.quick:
            print(QUICK_NOTE)
            setting = Setting((0.05, 0.2), scratch / "models", epochs=1, tuned=False)
        generated = scratch / "generated.npz"
        size = {"num_samples": 600} if options.quick else {}
        traces.write(traces.generate(name="generated", **size), generated)
        paths = [*([] if options.quick else traces_in(options.traces or TRACES)), generated]
        jobs = [Job(path.stem, measure, (path, setting)) for path in paths]
        results = {}
        for job, result in run_jobs(jobs, options.jobs):
            if isinstance(result, ChildFailedError):
                print(result, file=sys.stderr)
                return None
            results[job.name] = result
    facts = {job.name: results[job.name][0] for job in jobs}
    records = [record for job in jobs for record in results[job.name][1]]
    head = about(public_command("paper", given))
    return rounded({**head, "traces": facts, **to_columns(records)})


def _draw(content: Mapping[str, Any], docs: Path) -> dict[str, str]:
    """Draw the policies over LRU and recmg, a plot per trace; return the file names.

    Without matplotlib there are none.
    """
    pictures = {}
    docs.mkdir(parents=True, exist_ok=True)
    for name in content["traces"]:
        records = [
            record
            for record in from_columns(content)
            if record["trace"] == name
            and "prefetch_lag" not in record
            and record["policy"].startswith(("lru", "recmg"))
        ]
        path = docs / f"results-{name}.png"
        try:
            plot(records, path)
        except ImportError as error:
            print(f"no plot: {error}")
            return {}
        pictures[name] = path.name
    return pictures


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("paper", __doc__, show=False, jobs=core_count())
    parser.add_argument(
        "--page", action="store_true", help="lay out the kept results, measure nothing"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
