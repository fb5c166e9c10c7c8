"""Trained policies: taken where `make policies` left them, else trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bench.dlrm.contenders import Contender
from bench.policies.__main__ import FAST_FRACTIONS
from bench.policies.evaluation import Task, train
from tieralloc.trace import Trace


def trained(
    path: Path,
    made: Trace,
    contenders: Sequence[Contender],
    models: Path,
    epochs: int | None,
    tell: Callable[[str], None],
) -> dict[str, Path]:
    """Return the directory of each learned policy that contenders run from, by its name.

    They learned from the first half of the trace, at the capacities of `make policies`.
    """
    fractions = FAST_FRACTIONS if epochs is None else (0.2,)
    task = Task(path, fractions, models, epochs, reuse=True)
    names = dict.fromkeys(contender.trained for contender in contenders if contender.trained)
    return {name: train(task, made, name, 0, tell)[0] for name in names}
