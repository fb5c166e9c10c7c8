"""The rivals by name. Nothing that needs torch is imported before one is asked for that does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tieralloc._progress import Narration, unheard
from tieralloc.policies.rivals.tables import TABLE_RIVALS

if TYPE_CHECKING:
    from tieralloc.policies.rivals.rival import Rival

_TRANSFETCH = "transfetch"


def rival_names() -> list[str]:
    """Names of the rivals, in the order they are listed to users."""
    return [*(rival.name for rival in TABLE_RIVALS), _TRANSFETCH]


def make_rivals(
    names: Sequence[str], *, checkpoints: Path | None = None, progress: Narration = unheard
) -> dict[str, Rival]:
    """Make rivals.

    Parameters
    ----------
    names : sequence of str
        Of `rival_names`.
    checkpoints : path, optional
        Where trainings are kept, so that none is done twice.
    progress : callable
        Opens a bar for a training.

    Raises
    ------
    ValueError
        For an unknown name.
    ImportError
        Where torch is missing for one that needs it.
    """
    made: dict[str, Rival] = {rival.name: rival for rival in TABLE_RIVALS if rival.name in names}
    for name in names:
        if name not in rival_names():
            raise ValueError(f"rival {name!r} is unknown; known are {', '.join(rival_names())}")
    if _TRANSFETCH in names:
        from tieralloc.policies.rivals.transfetch import TransFetch

        made[_TRANSFETCH] = TransFetch(checkpoints, progress)
    return made
