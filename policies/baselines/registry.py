"""The baselines by name. torch is imported only by `make_baselines`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tieralloc.policies.baselines.tables import TABLE_BASELINES

if TYPE_CHECKING:
    from tieralloc.policies.baselines.baseline import Baseline

__all__ = ["baseline_names", "make_baselines"]


def baseline_names() -> list[str]:
    """Return the names of the baselines, in display order."""
    return [*(baseline.name for baseline in TABLE_BASELINES), "transfetch"]


def make_baselines(
    checkpoints: Path | None = None, epochs: int | None = None
) -> dict[str, Baseline]:
    """Return the baselines by name; ImportError without torch.

    Finished trainings are loaded from `checkpoints`. Without `epochs` each baseline has its own.
    """
    from tieralloc.policies.baselines.transfetch import TRAINING, TransFetch

    training = TRAINING if epochs is None else replace(TRAINING, epochs=epochs)
    transfetch = TransFetch(checkpoints, training)
    return {baseline.name: baseline for baseline in (*TABLE_BASELINES, transfetch)}
