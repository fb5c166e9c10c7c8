"""``tieralloc demo``: what the project does, to be seen in a minute, with no arguments."""

from __future__ import annotations

import os
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tieralloc import report
from tieralloc._files import check_writable
from tieralloc._progress import bar, waiting
from tieralloc._sizes import format_size
from tieralloc.replay import replay
from tieralloc.simulate import OPT, simulate
from tieralloc.trace import Trace, generate

POLICIES = ("lru", "s3fifo")
FAST_FRACTIONS = (0.01, 0.05, 0.1, 0.2)
_SHOWN_FRACTION = 0.05
_DIM = 64
_SAMPLES = 20000
_BATCH = 8
_PLOT = "tieralloc-demo.png"


def run(directory: Path, plot: str | None, num_samples: int = _SAMPLES) -> list[dict[str, Any]]:
    """Generate a trace, serve it, print what was seen and draw it.

    Parameters
    ----------
    directory : path
        Where to make the slow tier's file, which is removed.
    plot : str or None
        Where to draw; None: a file in the working directory, or else in the temporary one, and
        nothing where matplotlib is missing.
    num_samples : int
        Samples of the trace.

    Returns
    -------
    list of dict
        The records, by capacity.
    """
    print("A recommender's lookups, served from a file through a small pool of DRAM.\n", flush=True)
    with waiting("generating a trace"):
        trace = generate(num_samples=num_samples, name="demo")
    settings: dict[str, Any] = {"embedding_dim": _DIM, "batch_size": _BATCH, "directory": directory}
    measured = replay(trace, POLICIES, FAST_FRACTIONS, progress=bar, **settings)
    with bar("simulating opt", len(FAST_FRACTIONS) * trace.num_lookups, "rows") as done:
        hindsight = simulate(trace, [OPT], FAST_FRACTIONS, progress=done)
    checked = replay(trace, POLICIES[-1:], [_SHOWN_FRACTION], verify=True, progress=bar, **settings)
    records = sorted([*measured, *hindsight], key=lambda record: record["fast_fraction"])

    print(f"trace      {report.trace_summary(trace)}")
    print(report.replay_conditions(measured[0]))
    print(f"\n{_table(records)}\n")
    print(_what_one_sees(trace, records), flush=True)
    print(
        f"Every vector of {checked[0]['verified']:,} calls was compared with its source values: "
        "all equal.\n"
    )
    _draw(records, plot)
    return records


def _table(records: Sequence[Mapping[str, Any]]) -> str:
    """Return the table with a gap between capacities."""
    lines = report.replay_table(records).splitlines()
    text = lines[:2]
    for i, (line, record) in enumerate(zip(lines[2:], records, strict=True)):
        if i and record["fast_fraction"] != records[i - 1]["fast_fraction"]:
            text.append("")
        text.append(line)
    return "\n".join(text)


def _what_one_sees(trace: Trace, records: Sequence[Mapping[str, Any]]) -> str:
    shown = {r["policy"]: r for r in records if r["fast_fraction"] == _SHOWN_FRACTION}
    policy = min(POLICIES, key=lambda name: shown[name]["miss_ratio"])
    best, opt = shown[policy], shown[OPT]
    whole = int(trace.num_embeddings.sum()) * _DIM * 4
    waited = best["latency_us_by_outcome"]["on_demand"]["p50"]
    missed = best["miss_ratio"]
    text = (
        f"The tables are {format_size(whole)} of vectors. At a fast fraction of "
        f"{report.percent(_SHOWN_FRACTION)}, {policy} found {_share(1 - missed)} of the rows in "
        f"DRAM and fetched {_share(missed)} on demand, with {format_size(best['dram_bytes'])} of "
        "DRAM in all: vectors, index, metadata, read buffers and page cache. Perfect hindsight "
        f"(opt) would still have fetched {_share(opt['miss_ratio'])}. The median call of {_BATCH} "
        f"samples that waited for the file took {waited / 1000:.2g} ms; every on-demand fetch "
        "spared makes it shorter."
    )
    return textwrap.fill(text, width=100)


def _share(fraction: float) -> str:
    return f"{100 * fraction:.0f}%"


def _draw(records: Sequence[Mapping[str, Any]], chosen: str | None) -> None:
    from tieralloc.plot import plot

    path = _plot_path() if chosen is None else chosen
    try:
        with waiting("drawing"):
            plot(records, path)
    except ImportError as error:
        if chosen is not None:
            raise
        print(f"No plot was drawn: {error}")
        return
    print(f"Plot: {os.path.abspath(path)}")


def _plot_path() -> str:
    try:
        check_writable(_PLOT)
    except OSError:
        return os.path.join(tempfile.gettempdir(), _PLOT)
    return _PLOT
