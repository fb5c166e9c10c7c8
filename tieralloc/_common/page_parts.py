"""Values to load, cut where pages end, so that no page is written in two parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard, cast

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["cut_at_pages"]


def cut_at_pages(
    parts: Iterable[ArrayLike], rows_per_page: int, row: int, end: int
) -> Iterator[ArrayLike]:
    """Yield the values of a table's rows from `row` on, in whole pages.

    The last rows of a part wait for those that fill their page, or for row `end`; an error of
    `parts` comes after them. Parts that are no 2-D arrays of NumPy are yielded as they are.
    """
    rest: NDArray[Any] | None = None  # the rows that wait
    try:
        for part in parts:
            if rest is not None and not _continues(part, rest):
                yield rest
                row, rest = row + len(rest), None
            if not _is_rows(part):
                yield part
                row += len(cast("Sequence[object]", part))
                continue
            if rest is not None:
                at = row + len(rest)
                missing = min(-at % rows_per_page, end - at)
                rest = np.concatenate([rest, part[:missing]])
                if len(part) < missing:
                    continue
                yield rest
                row, rest, part = row + len(rest), None, part[missing:]
            after = row + len(part)
            whole = len(part) if after >= end else max(0, len(part) - after % rows_per_page)
            if whole > 0:
                yield part[:whole]
                row += whole
            if whole < len(part):
                rest = part[whole:].copy()  # the caller may fill the array with the next rows
    except Exception:
        if rest is not None:
            yield rest
        raise
    if rest is not None:
        yield rest


def _is_rows(part: ArrayLike) -> TypeGuard[NDArray[Any]]:
    return isinstance(part, np.ndarray) and part.ndim == 2 and len(part) > 0


def _continues(part: ArrayLike, rest: NDArray[Any]) -> bool:
    return _is_rows(part) and (part.dtype, part.shape[1]) == (rest.dtype, rest.shape[1])
