"""Replays a stream of accesses through a cache of the package libcachesim."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PACKAGE = "libcachesim"
_PIECE = 1 << 16


def refusal() -> str | None:
    """Say why there is nothing to replay with; None where there is."""
    if find_spec(PACKAGE) is not None:
        return None
    return (
        f"{PACKAGE} is not installed: pip install 'tieralloc[bench]' brings it where there are"
        " wheels of it, on x86-64 with Python 3.10 to 3.13"
    )


def count(
    kind: str,
    accesses: NDArray[np.uint64],
    capacity: int,
    count_from: int,
    report: Callable[[int], object] = lambda _: None,
) -> dict[str, int]:
    """Replay accesses one at a time, every row of size 1; count from number `count_from` on.

    Parameters
    ----------
    kind : str
        A class of the package, such as "LRB"; its parameters are the defaults.
    accesses : (n,) uint64
        Rows.
    capacity : int
        Rows that the cache holds.
    count_from : int
        The first access that is counted.
    report : callable
        Called with the number of accesses just replayed.

    Returns
    -------
    dict
        lookups, hits, on_demand_fetches.
    """
    import libcachesim

    get = getattr(libcachesim, kind)(cache_size=capacity).get
    request = libcachesim.Request(obj_size=1)
    hits = 0
    for begin in range(0, len(accesses), _PIECE):
        piece = accesses[begin : begin + _PIECE].tolist()
        for now, row in enumerate(piece, begin):
            request.obj_id = row
            request.clock_time = now
            hits += get(request) and now >= count_from
        report(len(piece))
    lookups = len(accesses) - count_from
    return {"lookups": lookups, "hits": hits, "on_demand_fetches": lookups - hits}
