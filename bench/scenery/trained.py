"""Policies trained on the first half of a trace, kept in a directory and reused."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from tieralloc.policies.registry import trainer

from bench.scenery.traces import COUNT_FROM, FAST_FRACTIONS
from tieralloc._common.progress import bar
from tieralloc.policy.directory import fingerprint
from tieralloc.trace import Trace


def train(
    made: Trace,
    policy: str,
    models: Path,
    *,
    fast_fractions: Sequence[float] = FAST_FRACTIONS,
    epochs: int | None = None,
    seed: int = 0,
    reuse: bool = True,
) -> tuple[Path, float | None]:
    """Train a policy on the first half of a trace; return its directory and the CPU seconds.

    With `reuse` a policy trained before with the same settings is taken, and an interrupted
    training finished (its CPU seconds are None). Without `epochs` as many are run as by
    `tieralloc train`.
    """
    sha256 = fingerprint(made.accesses())
    directory = models / f"{made.name}-{sha256[:8]}" / f"{policy}-seed{seed}"
    note = directory.with_name(f"{directory.name}.json")
    settings = {
        "policy": policy,
        "trace_sha256": sha256,
        "fast_fractions": list(fast_fractions),
        "epochs": epochs,
        "seed": seed,
    }
    if reuse and note.exists():
        known = json.loads(note.read_text())
        if known["settings"] == settings:
            return directory, known["cpu_seconds"]
    note.unlink(missing_ok=True)
    if not reuse:
        shutil.rmtree(directory, ignore_errors=True)
    is_resumed = directory.exists()
    began = time.process_time()
    trainer(policy)(
        made,
        directory,
        list(fast_fractions),
        until=COUNT_FROM,
        seed=seed,
        progress=bar,
        **({} if epochs is None else {"epochs": epochs}),
    )
    seconds = None if is_resumed else round(time.process_time() - began, 1)
    note.write_text(json.dumps({"settings": settings, "cpu_seconds": seconds}) + "\n")
    return directory, seconds
