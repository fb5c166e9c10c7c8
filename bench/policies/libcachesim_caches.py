"""Replays of a stream of accesses through a cache of the package libcachesim."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PACKAGE = "libcachesim"


def refusal() -> str | None:
    """Return why the package cannot be used here; None if it can."""
    if find_spec(PACKAGE) is not None:
        return None
    return (
        f"{PACKAGE} is not installed: pip install 'tieralloc[bench]' has it where it has wheels, on"
        " x86-64 with Python 3.10 to 3.13"
    )


def count(
    kind: str, accesses: NDArray[np.uint64], capacity: int, count_from: int
) -> dict[str, int]:
    """Replay accesses through a class of the package; return lookups, hits, on_demand_fetches.

    They are replayed one at a time, each row of size 1. Accesses before number `count_from` are not
    counted.
    """
    import libcachesim

    get = getattr(libcachesim, kind)(cache_size=capacity).get
    request = libcachesim.Request(obj_size=1)
    hits = 0
    for now, row in enumerate(accesses.tolist()):
        request.obj_id = row
        request.clock_time = now
        hits += get(request) and now >= count_from
    lookups = len(accesses) - count_from
    return {"lookups": lookups, "hits": hits, "on_demand_fetches": lookups - hits}
