"""``tieralloc demo``: what the project does, to be seen in two minutes, with no arguments."""

from __future__ import annotations

import os
import tempfile
import textwrap
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from tieralloc._common.files import check_writable, temporary_directory
from tieralloc._common.numbers import format_size
from tieralloc._common.progress import bar, narrated, waiting
from tieralloc.policies.registry import trainer
from tieralloc.policy.registry import with_learned
from tieralloc.tools import report
from tieralloc.tools.replay.replay import replay
from tieralloc.tools.simulate import OPT, simulate
from tieralloc.trace import Trace, generate

#: The policies that need no training.
SIMPLE = ("lru", "s3fifo")
#: The one that does, where there is torch.
LEARNED = "recmg"
FAST_FRACTIONS = (0.01, 0.05, 0.1, 0.2)
_SHOWN_FRACTION = 0.05
_DIM = 64
_SAMPLES = 20000
_BATCH = 8
_EPOCHS = 4  # of training: more is better, and takes longer than a demo may
_PLOT = "tieralloc-demo.png"


def run(directory: Path, plot: str | None, num_samples: int = _SAMPLES) -> list[dict[str, Any]]:
    """Generate a trace, learn from its half, serve the rest, print what was seen and draw it.

    Parameters
    ----------
    directory : path
        Where to make the slow tier's file and the trained policy, which are removed.
    plot : str or None
        Where to draw; None: a file in the working directory, or else in the temporary one, and
        nothing where matplotlib is missing.
    num_samples : int
        Samples of the trace.

    Returns
    -------
    list of dict
        The records: those of the simulation, and those of the replay, which have latencies.
    """
    print("A recommender's lookups, served from a file through a small pool of DRAM.\n", flush=True)
    with waiting("generating a trace"):
        trace = generate(num_samples=num_samples, name="demo")
    print(f"trace      {report.trace_summary(trace)}", flush=True)
    with temporary_directory(directory) as made:
        learned = _train(trace, made / LEARNED)
        simulated = _simulate(trace, learned)
        served = _serve(trace, learned, directory)
    _draw([*served, *_simulated_alone(simulated)], plot)
    return [*simulated, *served]


def _train(trace: Trace, directory: Path) -> list[str]:
    """Train what learns, and name it as the command line does; nothing where torch is missing."""
    try:
        with waiting("loading torch"):
            train = trainer(LEARNED)
    except ImportError as error:
        print(f"\n{LEARNED} is left out: {error}", flush=True)
        return []
    began = time.monotonic()
    train(trace, directory, list(FAST_FRACTIONS), epochs=_EPOCHS, progress=narrated)
    seconds = time.monotonic() - began
    print(f"training   {LEARNED}, on the first half of it, in {seconds:.0f} s", flush=True)
    return [f"{LEARNED}:{directory}"]


def _simulate(trace: Trace, learned: Sequence[str]) -> list[dict[str, Any]]:
    """Count what each policy would do, and print it."""
    policies = with_learned([*SIMPLE, *learned, OPT])
    total = len(policies) * len(FAST_FRACTIONS) * trace.num_lookups
    with _one_thread() if learned else nullcontext(), bar("simulating", total, "rows") as done:
        records = simulate(trace, policies, FAST_FRACTIONS, progress=done)
    print(
        "\nSimulated, one row at a time: the share of the second half's lookups that are fetched on"
        f" demand.\n\n{report.miss_ratio_table(records)}\n"
    )
    if learned:
        print(f"{_what_learning_is_worth(records)}\n", flush=True)
    return records


def _one_thread() -> AbstractContextManager[None]:
    from tieralloc._common.torch import one_thread

    return one_thread()


def _what_learning_is_worth(records: Sequence[Mapping[str, Any]]) -> str:
    won, lost, closed = [], [], []
    for fraction in FAST_FRACTIONS:
        at = {
            record["policy"]: record["on_demand_fetches"]
            for record in records
            if record["fast_fraction"] == fraction
        }
        best = min(SIMPLE, key=lambda name: at[name])
        if at[LEARNED] < at[best]:
            won.append(report.percent(fraction))
        else:
            lost.append(f"{report.percent(fraction)} ({best})")
        if at["lru"] > at[OPT]:
            closed.append((at["lru"] - at[LEARNED]) / (at["lru"] - at[OPT]))
    text = f"{LEARNED} has fewer on-demand fetches than {' and '.join(SIMPLE)} "
    text += f"at {', '.join(won)}" if won else "nowhere"
    if lost:
        text += f"; another has as few or fewer at {', '.join(lost)}"
    text += "."
    if closed:
        share = _share(sum(closed) / len(closed))
        text += f" Of the gap from lru to perfect hindsight ({OPT}) it closes {share}, on average."
    return textwrap.fill(text, width=100)


def _serve(trace: Trace, learned: Sequence[str], directory: Path) -> list[dict[str, Any]]:
    """Replay the trace from a real file, and print what that took."""
    policies = [*SIMPLE, *learned]
    settings: dict[str, Any] = {"embedding_dim": _DIM, "batch_size": _BATCH, "directory": directory}
    measured = replay(trace, policies, FAST_FRACTIONS, progress=bar, **settings)
    checked = replay(trace, policies[-1:], [_SHOWN_FRACTION], verify=True, progress=bar, **settings)
    records = sorted(measured, key=lambda record: record["fast_fraction"])
    print(f"Served from a file:\n\n{report.replay_conditions(records[0])}")
    print(f"\n{_table(records)}\n")
    print(_what_one_sees(trace, records), flush=True)
    print(
        f"Every vector of {checked[0]['verified']:,} calls was compared with its source values: "
        "all equal.\n"
    )
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
    best = min(shown.values(), key=lambda record: record["miss_ratio"])
    whole = int(trace.num_embeddings.sum()) * _DIM * 4
    waited = best["latency_us_by_outcome"]["on_demand"]["p50"]
    missed = best["miss_ratio"]
    text = (
        f"The tables are {format_size(whole)} of vectors. At a fast fraction of "
        f"{report.percent(_SHOWN_FRACTION)}, {best['policy']} found {_share(1 - missed)} of the "
        f"rows in DRAM and fetched {_share(missed)} on demand, with "
        f"{format_size(best['dram_bytes'])} of DRAM in all: vectors, index, metadata, read buffers "
        f"and page cache. The median call of {_BATCH} samples that waited for the file took "
        f"{waited / 1000:.2g} ms; every on-demand fetch spared makes it shorter."
    )
    if LEARNED in shown:
        text += f" {_how_learning_kept_pace(shown[LEARNED])}"
    return textwrap.fill(text, width=100)


def _how_learning_kept_pace(record: Mapping[str, Any]) -> str:
    policy = record["policy_stats"]
    cpu_us = 1e6 * policy["cpu_seconds"] / max(1, policy["accesses_observed"])
    lag = f"its decisions came {policy['policy_lag']['mean']:,.0f} accesses late on average"
    late = f" and {lag}"
    if policy["pauses"]:
        late = f", {lag}, and it paused because it cost more CPU time than it saved waiting"
    return (
        f"{LEARNED} decided in a background thread: it took {cpu_us:.1f} us of CPU per access that"
        f" it observed{late}."
    )


def _simulated_alone(simulated: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what the replay does not show: hindsight, and what learns where it is never late."""
    names = {OPT: OPT, LEARNED: f"{LEARNED}, simulated"}
    return [
        {**record, "policy": names[record["policy"]]}
        for record in simulated
        if record["policy"] in names
    ]


def _share(fraction: float) -> str:
    return f"{100 * fraction:.0f}%"


def _draw(records: Sequence[Mapping[str, Any]], chosen: str | None) -> None:
    from tieralloc.tools.plots.records import plot

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
