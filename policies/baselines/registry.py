"""The baselines by name. torch is imported only for a baseline that needs it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tieralloc.policies.baselines.tables import TABLE_BASELINES

from tieralloc._common.progress import Narration, unheard

if TYPE_CHECKING:
    from tieralloc.policies.baselines.baseline import Baseline

_TRANSFETCH = "transfetch"


def baseline_names() -> list[str]:
    """Return the names of the baselines, in display order."""
    return [*(baseline.name for baseline in TABLE_BASELINES), _TRANSFETCH]


def make_baselines(
    names: Sequence[str], *, checkpoints: Path | None = None, progress: Narration = unheard
) -> dict[str, Baseline]:
    """Return baselines by name.

    Parameters
    ----------
    names : sequence of str
        Names from `baseline_names`.
    checkpoints : path, optional
        Folder of checkpoints; finished trainings are loaded from it.
    progress : callable
        Opens a progress bar for a training.

    Raises
    ------
    ValueError
        If a name is unknown.
    ImportError
        If torch is missing.
    """
    for name in names:
        if name not in baseline_names():
            raise ValueError(
                f"baseline {name!r}: unknown; expected one of {', '.join(baseline_names())}"
            )
    baselines: dict[str, Baseline] = {
        baseline.name: baseline for baseline in TABLE_BASELINES if baseline.name in names
    }
    if _TRANSFETCH in names:
        from tieralloc.policies.baselines.transfetch import TransFetch

        baselines[_TRANSFETCH] = TransFetch(checkpoints, progress)
    return baselines
