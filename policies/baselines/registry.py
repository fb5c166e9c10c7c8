"""The baselines by name. torch is imported only to make one that needs it."""

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
    """Names of the baselines, in the order they are listed to users."""
    return [*(baseline.name for baseline in TABLE_BASELINES), _TRANSFETCH]


def make_baselines(
    names: Sequence[str], *, checkpoints: Path | None = None, progress: Narration = unheard
) -> dict[str, Baseline]:
    """Make baselines.

    Parameters
    ----------
    names : sequence of str
        Of `baseline_names`.
    checkpoints : path, optional
        Folder of finished trainings, which are not repeated.
    progress : callable
        Opens a progress bar for a training.

    Raises
    ------
    ValueError
        For an unknown name.
    ImportError
        For a missing torch.
    """
    made: dict[str, Baseline] = {
        baseline.name: baseline for baseline in TABLE_BASELINES if baseline.name in names
    }
    for name in names:
        if name not in baseline_names():
            raise ValueError(
                f"baseline {name!r} is unknown; known are {', '.join(baseline_names())}"
            )
    if _TRANSFETCH in names:
        from tieralloc.policies.baselines.transfetch import TransFetch

        made[_TRANSFETCH] = TransFetch(checkpoints, progress)
    return made
