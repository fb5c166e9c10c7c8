"""``tieralloc demo``: generate, train, simulate, replay and plot on a small trace, no arguments."""

from __future__ import annotations

import itertools
import os
import tempfile
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
from tieralloc.tools.conclusions import conclude, learned_gains
from tieralloc.tools.replay.replay import replay
from tieralloc.tools.simulate import OPT, simulate
from tieralloc.trace import Trace, generate

#: Policies without training.
SIMPLE = ("lru", "s3fifo")
#: The learned policy; needs torch.
LEARNED = "recmg"
FAST_FRACTIONS = (0.01, 0.05, 0.2)
_SHOWN_FRACTION = 0.05
_DIM = 64
_SAMPLES = 20000
_BATCH = 8
_EPOCHS = 4  # of training: more epochs improve the policy, but exceed the time of a demo
_STEPS = 5
_NOTES = (
    "DRAM is everything: vectors, index, metadata, read buffers, page cache, and the memory of the "
    "policy. Miss ratio and device reads are shares of the lookups; a device read is an on-demand "
    "fetch or a prefetch."
)
_PLOT = "tieralloc-demo.png"


def run(
    directory: Path, plot: str | None, num_samples: int = _SAMPLES, *, force: bool = False
) -> list[dict[str, Any]]:
    """Generate a trace, train on its first half, serve the second; print, plot, return records.

    `directory` is that of the slow tier's file and the trained policy, both removed at the end.
    Without `plot`, the plot is a new file in the working directory, or in the temporary directory
    if that is not writable; `force` replaces that of another demo. Without matplotlib there is no
    plot.
    """
    print("A recommendation model's lookups, served from a file and a small pool of DRAM.")
    _step(1, "generate a trace")
    with waiting("generating a trace"):
        trace = generate(num_samples=num_samples, name="demo")
    print(report.wrap(f"{report.trace_summary(trace)}; {_size(trace)} of vectors"))
    with temporary_directory(directory) as temporary:
        learned = _train(trace, temporary / LEARNED)
        simulated = _simulate(trace, learned)
        served = _serve(trace, learned, directory)
    _draw([*served, *(record for record in simulated if record["policy"] == OPT)], plot, force)
    return [*simulated, *served]


def _step(number: int, text: str) -> None:
    print(f"\n{number}/{_STEPS} {text}", flush=True)


def _size(trace: Trace) -> str:
    return format_size(int(trace.num_embeddings.sum()) * _DIM * 4)


def _train(trace: Trace, directory: Path) -> list[str]:
    """Train the learned policy; return its command-line name, or an empty list without torch."""
    _step(2, f"train {LEARNED} on the first half")
    try:
        with waiting("loading torch"):
            train = trainer(LEARNED)
    except ImportError as error:
        print(f"{LEARNED} is skipped: {error}", flush=True)
        return []
    start = time.monotonic()
    train(trace, directory, sorted(FAST_FRACTIONS), epochs=_EPOCHS, progress=bar)
    print(f"trained in {time.monotonic() - start:.0f} s", flush=True)
    return [f"{LEARNED}:{directory}"]


def _simulate(trace: Trace, learned: Sequence[str]) -> list[dict[str, Any]]:
    """Simulate each policy, and print the miss ratios."""
    _step(3, "simulate the second half, one row at a time: miss ratios")
    policies = with_learned([*SIMPLE, *learned, OPT])
    total = len(policies) * len(FAST_FRACTIONS) * trace.num_lookups
    with _one_thread() if learned else nullcontext(), bar("simulating", total, "rows") as done:
        records = simulate(trace, policies, FAST_FRACTIONS, progress=done)
    print(f"{report.wrap(conclude(records))}\n\n{report.miss_ratio_table(records)}", flush=True)
    return records


def _one_thread() -> AbstractContextManager[None]:
    from tieralloc._common.torch import one_thread

    return one_thread()


def _serve(trace: Trace, learned: Sequence[str], directory: Path) -> list[dict[str, Any]]:
    """Replay the trace from a real file, and print latencies and counts."""
    _step(4, f"serve it from a file, {_BATCH} samples per call")
    policies = [*SIMPLE, *learned]
    settings: dict[str, Any] = {"embedding_dim": _DIM, "batch_size": _BATCH, "directory": directory}
    records = replay(trace, policies, FAST_FRACTIONS, baselines=True, progress=bar, **settings)
    print(report.wrap(conclude(records)))
    for gain in learned_gains(records):
        print(report.wrap(gain))
    print(f"\n{report.replay_conditions(records[-1])}\n\n{report.replay_table(records)}\n")
    print(report.wrap(_NOTES))
    _step(5, "compare every vector with its source, and draw a plot")
    (verified,) = replay(
        trace, policies[-1:], [_SHOWN_FRACTION], verify=True, progress=bar, **settings
    )
    print(f"all vectors of {verified['verified']:,} calls are equal", flush=True)
    return records


def _draw(records: Sequence[Mapping[str, Any]], path: str | None, force: bool) -> None:
    from tieralloc.tools.plots.records import plot

    target = _plot_path(force) if path is None else path
    try:
        with waiting("drawing"):
            plot(records, target)
    except ImportError as error:
        if path is not None:
            raise
        print(f"No plot: {error}")
        return
    print(f"Plot: {os.path.abspath(target)}")


def _plot_path(force: bool) -> str:
    """Return a new file, or that of another demo with `force`."""
    name, suffix = os.path.splitext(_PLOT)
    for directory in ("", tempfile.gettempdir()):
        for number in itertools.count(1):
            path = os.path.join(directory, _PLOT if number == 1 else f"{name}-{number}{suffix}")
            if os.path.exists(path) and not (force and os.path.isfile(path)):
                continue
            try:
                check_writable(path)
            except OSError:
                break
            return path
    raise AssertionError("unreachable: the working directory or the temporary one is writable")
