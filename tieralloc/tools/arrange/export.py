"""The file of an order as permutations, for callers that renumber their rows."""

from __future__ import annotations

import os
import zipfile

import numpy as np

from tieralloc._common.files import replacing
from tieralloc.order import Order

__all__ = ["write_permutations"]


def write_permutations(order: Order, path: str | os.PathLike[str]) -> None:
    """Write an array for each table, by its name: the new number of each row, int64.

    Row ``i`` of the table becomes row ``new[i]``: ``rows[np.argsort(new)]`` are the vectors of the
    new table, and ``new[indices]`` the indices of a lookup.
    """
    with (
        replacing(path) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name, table in order.tables.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, table.permutation(), allow_pickle=False)
