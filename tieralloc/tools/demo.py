"""``tieralloc demo``: generate, train, simulate, replay and plot on a small trace, no arguments."""

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
from tieralloc._common.progress import bar, waiting
from tieralloc.policies.registry import trainer
from tieralloc.policy.registry import with_learned
from tieralloc.tools import report
from tieralloc.tools.replay.replay import replay
from tieralloc.tools.simulate import OPT, simulate
from tieralloc.trace import Trace, generate

#: Policies without training.
SIMPLE = ("lru", "s3fifo")
#: The learned policy; needs torch.
LEARNED = "recmg"
FAST_FRACTIONS = (0.01, 0.05, 0.1, 0.2)
_SHOWN_FRACTION = 0.05
_DIM = 64
_SAMPLES = 20000
_BATCH = 8
_EPOCHS = 4  # of training: more epochs improve the policy, but exceed the time of a demo
_PLOT = "tieralloc-demo.png"


def run(directory: Path, plot: str | None, num_samples: int = _SAMPLES) -> list[dict[str, Any]]:
    """Generate a trace, train on its first half, serve the second, print and plot the results.

    Parameters
    ----------
    directory : path
        Directory of the slow tier's file and the trained policy, both removed at the end.
    plot : str or None
        Path of the plot; None: a file in the working directory, or in the temporary directory if
        that is not writable, and no plot without matplotlib.
    num_samples : int
        Number of samples of the trace.

    Returns
    -------
    list of dict
        The records of the simulation, then those of the replay.
    """
    print(
        "A recommendation model's lookups, served from a file and a small pool of DRAM.\n",
        flush=True,
    )
    with waiting("generating a trace"):
        trace = generate(num_samples=num_samples, name="demo")
    print(f"trace      {report.trace_summary(trace)}", flush=True)
    with temporary_directory(directory) as temporary:
        learned = _train(trace, temporary / LEARNED)
        simulated = _simulate(trace, learned)
        served = _serve(trace, learned, directory)
    _draw([*served, *_simulated_only(simulated)], plot)
    return [*simulated, *served]


def _train(trace: Trace, directory: Path) -> list[str]:
    """Train the learned policy; return its command-line name, or an empty list without torch."""
    try:
        with waiting("loading torch"):
            train = trainer(LEARNED)
    except ImportError as error:
        print(f"\n{LEARNED} is skipped: {error}", flush=True)
        return []
    start = time.monotonic()
    train(trace, directory, list(FAST_FRACTIONS), epochs=_EPOCHS, progress=bar)
    seconds = time.monotonic() - start
    print(f"training   {LEARNED}, on the first half, in {seconds:.0f} s", flush=True)
    return [f"{LEARNED}:{directory}"]


def _simulate(trace: Trace, learned: Sequence[str]) -> list[dict[str, Any]]:
    """Simulate each policy, and print the miss ratios."""
    policies = with_learned([*SIMPLE, *learned, OPT])
    total = len(policies) * len(FAST_FRACTIONS) * trace.num_lookups
    with _one_thread() if learned else nullcontext(), bar("simulating", total, "rows") as done:
        records = simulate(trace, policies, FAST_FRACTIONS, progress=done)
    print(
        "\nSimulated, one row at a time: miss ratio of the second half of the trace."
        f"\n\n{report.miss_ratio_table(records)}\n"
    )
    if learned:
        print(f"{_compare_learned(records)}\n", flush=True)
    return records


def _one_thread() -> AbstractContextManager[None]:
    from tieralloc._common.torch import one_thread

    return one_thread()


def _compare_learned(records: Sequence[Mapping[str, Any]]) -> str:
    won, lost, gap_shares = [], [], []
    for fraction in FAST_FRACTIONS:
        fetches = {
            record["policy"]: record["on_demand_fetches"]
            for record in records
            if record["fast_fraction"] == fraction
        }
        best = min(SIMPLE, key=lambda name: fetches[name])
        if fetches[LEARNED] < fetches[best]:
            won.append(report.percent(fraction))
        else:
            lost.append(f"{report.percent(fraction)} ({best})")
        if fetches["lru"] > fetches[OPT]:
            gap = fetches["lru"] - fetches[OPT]
            gap_shares.append((fetches["lru"] - fetches[LEARNED]) / gap)
    text = f"{LEARNED} has fewer on-demand fetches than {' and '.join(SIMPLE)} "
    text += f"at {', '.join(won)}" if won else "at no capacity"
    if lost:
        text += f"; another policy has as few or fewer at {', '.join(lost)}"
    text += "."
    if gap_shares:
        share = _share(sum(gap_shares) / len(gap_shares))
        text += f" It closes {share} of the gap between lru and {OPT} (optimal), on average."
    return textwrap.fill(text, width=100)


def _serve(trace: Trace, learned: Sequence[str], directory: Path) -> list[dict[str, Any]]:
    """Replay the trace from a real file, and print latencies and counts."""
    policies = [*SIMPLE, *learned]
    settings: dict[str, Any] = {"embedding_dim": _DIM, "batch_size": _BATCH, "directory": directory}
    measured = replay(trace, policies, FAST_FRACTIONS, progress=bar, **settings)
    verified = replay(
        trace, policies[-1:], [_SHOWN_FRACTION], verify=True, progress=bar, **settings
    )
    records = sorted(measured, key=lambda record: record["fast_fraction"])
    print(f"Served from a file:\n\n{report.replay_conditions(records[0])}")
    print(f"\n{_table(records)}\n")
    print(_summary(trace, records), flush=True)
    print(
        f"Every vector of {verified[0]['verified']:,} calls was compared with its source values: "
        "all equal.\n"
    )
    return records


def _table(records: Sequence[Mapping[str, Any]]) -> str:
    """Return the table with an empty line between capacities."""
    lines = report.replay_table(records).splitlines()
    text = lines[:2]
    for i, (line, record) in enumerate(zip(lines[2:], records, strict=True)):
        if i and record["fast_fraction"] != records[i - 1]["fast_fraction"]:
            text.append("")
        text.append(line)
    return "\n".join(text)


def _summary(trace: Trace, records: Sequence[Mapping[str, Any]]) -> str:
    by_policy = {r["policy"]: r for r in records if r["fast_fraction"] == _SHOWN_FRACTION}
    best = min(by_policy.values(), key=lambda record: record["miss_ratio"])
    table_bytes = int(trace.num_embeddings.sum()) * _DIM * 4
    median_us = best["latency_us_by_outcome"]["on_demand"]["p50"]
    miss_ratio = best["miss_ratio"]
    text = (
        f"The tables are {format_size(table_bytes)} of vectors. At a fast fraction of "
        f"{report.percent(_SHOWN_FRACTION)}, {best['policy']} served {_share(1 - miss_ratio)} of "
        f"the lookups from DRAM and {_share(miss_ratio)} by on-demand fetches. It used "
        f"{format_size(best['dram_bytes'])} of DRAM in total: vectors, index, metadata, read "
        f"buffers and page cache. The median latency of a call of {_BATCH} samples with on-demand "
        f"fetches is {median_us / 1000:.2g} ms."
    )
    if LEARNED in by_policy:
        text += f" {_policy_cost(by_policy[LEARNED])}"
    return textwrap.fill(text, width=100)


def _policy_cost(record: Mapping[str, Any]) -> str:
    policy = record["policy_stats"]
    cpu_us = 1e6 * policy["cpu_seconds"] / max(1, policy["accesses_observed"])
    lag = policy["policy_lag"]["mean"]
    text = (
        f"{LEARNED} runs in a background thread: {cpu_us:.1f} µs of CPU time per observed access, "
        f"decisions {lag:,.0f} accesses late on average."
    )
    if policy["pauses"]:
        text += " It paused, because it cost more CPU time than it saved in waiting."
    return text


def _simulated_only(simulated: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the simulated records of opt, and of the learned policy without lag."""
    names = {OPT: OPT, LEARNED: f"{LEARNED}, simulated"}
    return [
        {**record, "policy": names[record["policy"]]}
        for record in simulated
        if record["policy"] in names
    ]


def _share(fraction: float) -> str:
    return f"{100 * fraction:.0f}%"


def _draw(records: Sequence[Mapping[str, Any]], path: str | None) -> None:
    from tieralloc.tools.plots.records import plot

    target = _plot_path() if path is None else path
    try:
        with waiting("drawing"):
            plot(records, target)
    except ImportError as error:
        if path is not None:
            raise
        print(f"No plot: {error}")
        return
    print(f"Plot: {os.path.abspath(target)}")


def _plot_path() -> str:
    try:
        check_writable(_PLOT)
    except OSError:
        return os.path.join(tempfile.gettempdir(), _PLOT)
    return _PLOT
