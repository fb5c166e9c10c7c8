"""The trace: the bags that samples looked up in time order, table-major, and its access stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class Trace:
    """What a recommender looked up, sample by sample in time order, laid out table-major.

    Bag ``t * num_samples + b``, what sample ``b`` looks up in table ``t``, is
    ``indices[offsets[t * num_samples + b] : offsets[t * num_samples + b + 1]]``.
    The arrays of a trace are read-only.

    Parameters
    ----------
    indices : (nnz,) int64
        Rows looked up, each below the `num_embeddings` of its table.
    offsets : (T * B + 1,) int64
        Where each bag begins, ascending from 0; the last is ``nnz``.
    lengths : (T, B) int32
        Lookups in each bag.
    table_names : (T,) list of str
        One or more, all different.
    num_embeddings : (T,) int64
        Rows of each table, at least 1.
    name : str
        What reports call the trace.

    Raises
    ------
    ValueError
        For an array of another kind or shape, or where they contradict each other.
    """

    indices: NDArray[np.int64]
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int32]
    table_names: list[str]
    num_embeddings: NDArray[np.int64]
    name: str = "trace"

    def __post_init__(self) -> None:
        names = [str(name) for name in self.table_names]
        indices = _integers("indices", self.indices, np.int64, ndim=1)
        offsets = _integers("offsets", self.offsets, np.int64, ndim=1)
        lengths = _integers("lengths", self.lengths, np.int32, ndim=2)
        num_embeddings = _integers("num_embeddings", self.num_embeddings, np.int64, ndim=1)
        _check_tables(names, lengths, num_embeddings)
        _check_bags(len(indices), offsets, lengths)
        _check_indices(indices, offsets[:: lengths.shape[1] or 1], names, num_embeddings)
        checked = {
            "indices": indices,
            "offsets": offsets,
            "lengths": lengths,
            "table_names": names,
            "num_embeddings": num_embeddings,
        }
        for field, value in checked.items():
            object.__setattr__(self, field, value)

    @classmethod
    def from_lengths(
        cls,
        indices: ArrayLike,
        lengths: ArrayLike,
        table_names: Sequence[str],
        num_embeddings: ArrayLike,
        name: str = "trace",
    ) -> Trace:
        """Make a trace from its bags' lengths (T, B), from which the offsets follow."""
        checked = _integers("lengths", lengths, np.int32, ndim=2)
        if checked.size and checked.min() < 0:
            raise ValueError(f"lengths hold {checked.min()}, expected none below 0")
        return cls(
            np.asarray(indices),
            starts_of(checked.ravel()),
            checked,
            list(table_names),
            np.asarray(num_embeddings),
            name,
        )

    @classmethod
    def from_accesses(
        cls,
        accesses: ArrayLike,
        sample_lengths: ArrayLike,
        table_names: Sequence[str],
        num_embeddings: ArrayLike,
        name: str = "trace",
    ) -> Trace:
        """Make a trace from an access stream; `accesses` is the reverse.

        Parameters
        ----------
        accesses : (nnz,) integers
            Rows, numbered across the tables, sample by sample.
        sample_lengths : (B,) integers
            Accesses of each sample.
        table_names, num_embeddings, name
            As of `Trace`.

        Raises
        ------
        ValueError
            For lengths that do not add up to the accesses, or a row that no table has.
        """
        rows = _integers("accesses", accesses, np.int64, ndim=1)
        samples = _integers("sample_lengths", sample_lengths, np.int64, ndim=1)
        sizes = _integers("num_embeddings", num_embeddings, np.int64, ndim=1)
        if (len(samples) and samples.min() < 0) or samples.sum() != len(rows):
            raise ValueError(
                f"sample_lengths: expected none below 0 and a sum of {len(rows)} accesses, got "
                f"{samples.sum()}"
            )
        starts = starts_of(sizes)
        if len(rows) and (rows.min() < 0 or rows.max() >= starts[-1]):
            raise ValueError(f"accesses: expected rows 0 to {starts[-1] - 1}, got {rows.max()}")
        tables = np.searchsorted(starts, rows, side="right") - 1
        bags = tables * len(samples) + np.repeat(np.arange(len(samples)), samples)
        order = np.argsort(bags, kind="stable")
        lengths = np.bincount(bags, minlength=len(sizes) * len(samples))
        return cls.from_lengths(
            (rows - starts[tables])[order],
            lengths.reshape(len(sizes), len(samples)),
            table_names,
            sizes,
            name,
        )

    @property
    def num_tables(self) -> int:
        """Tables, T."""
        return len(self.lengths)

    @property
    def num_samples(self) -> int:
        """Samples, B: one bag of each table apiece."""
        return int(self.lengths.shape[1])

    @property
    def num_lookups(self) -> int:
        """Accesses of the whole trace, nnz."""
        return len(self.indices)

    @property
    def first_rows(self) -> NDArray[np.int64]:
        """Where each table begins when the rows of all tables are numbered on, (T,) int64."""
        return starts_of(self.num_embeddings)[:-1]

    def accesses(self) -> NDArray[np.uint64]:
        """Return the access stream: every lookup in time order, rows numbered across the tables.

        Sample by sample in order; within a sample the tables in order; within a bag the indices
        in order. Row ``i`` of table ``t`` is number ``first_rows[t] + i``.

        Returns
        -------
        (nnz,) uint64
        """
        sample_major = self.lengths.T.ravel()
        starts = starts_of(sample_major)[:-1]
        bag_starts = self.offsets[:-1].reshape(self.lengths.shape).T.ravel()
        # Where in the table-major order each access of the sample-major order is found.
        source = np.repeat(bag_starts - starts, sample_major)
        source += np.arange(len(source))
        per_table = self.lengths.sum(axis=1, dtype=np.int64)
        rows = self.indices + np.repeat(self.first_rows, per_table)
        accesses: NDArray[np.uint64] = rows[source].view(np.uint64)
        return accesses

    def batches(self, batch_size: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Iterate over batches of consecutive samples, as ``store.embedding_bag`` takes them.

        Parameters
        ----------
        batch_size : int
            Samples of a batch, at least 1; the last batch may have fewer.

        Yields
        ------
        indices : (n,) int64
            Table-major.
        offsets : (T * b + 1,) int64
            From 0, for the ``b`` samples of the batch.

        Raises
        ------
        ValueError
            At once, for a batch size below 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, expected at least 1")
        return (
            self._gather(begin, min(begin + batch_size, self.num_samples))
            for begin in range(0, self.num_samples, batch_size)
        )

    def samples(self, begin: int, end: int) -> Trace:
        """Return samples `begin` to ``end - 1`` as a trace of the same tables and name.

        Raises
        ------
        ValueError
            Unless ``0 <= begin <= end <= num_samples``.
        """
        if not 0 <= begin <= end <= self.num_samples:
            raise ValueError(
                f"samples {begin} to {end} asked for, expected ascending, from 0 to"
                f" {self.num_samples}"
            )
        indices, offsets = self._gather(begin, end)
        lengths = self.lengths[:, begin:end].copy()
        return Trace(indices, offsets, lengths, self.table_names, self.num_embeddings, self.name)

    def sample_of_access(self, access: int) -> int:
        """Return the first sample that begins at or after access number `access`.

        Accesses are numbered as in `accesses`. Where no sample begins so late it is
        `num_samples`.

        Raises
        ------
        ValueError
            Unless ``0 <= access <= num_lookups``.
        """
        if not 0 <= access <= self.num_lookups:
            raise ValueError(
                f"access {access} asked for, expected at least 0 and at most {self.num_lookups}"
            )
        begins = starts_of(self.lengths.sum(axis=0, dtype=np.int64))[:-1]
        return int(np.searchsorted(begins, access, side="left"))

    def _gather(self, begin: int, end: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        tables, samples = self.lengths.shape
        # In Python's ints: a slice for each table is all that a batch costs.
        starts = self.offsets[[table * samples + begin for table in range(tables)]].tolist()
        ends = self.offsets[[table * samples + end for table in range(tables)]].tolist()
        indices = np.concatenate(
            [self.indices[a:b] for a, b in zip(starts, ends, strict=True)], dtype=np.int64
        )
        return indices, starts_of(self.lengths[:, begin:end].ravel())


def starts_of(lengths: NDArray[Any]) -> NDArray[np.int64]:
    """Where each of consecutive pieces of these lengths begins, and where the last one ends."""
    starts = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=starts[1:])
    return starts


def _integers(what: str, values: ArrayLike, dtype: type[np.integer[Any]], ndim: int) -> Any:
    """Return a read-only, contiguous view or conversion of an array of integers."""
    array = np.asarray(values)
    if array.dtype.kind not in "iu" and array.size:
        raise ValueError(f"{what} are of dtype {array.dtype}, expected integers")
    if array.ndim != ndim:
        raise ValueError(f"{what} have shape {array.shape}, expected {ndim} dimension(s)")
    limits = np.iinfo(dtype)
    if array.size and not np.can_cast(array.dtype, dtype):
        low, high = array.min(), array.max()
        if low < limits.min or high > limits.max:
            raise ValueError(f"{what} range from {low} to {high}, expected {np.dtype(dtype)}")
    view = np.ascontiguousarray(array, dtype=dtype).view()
    view.flags.writeable = False
    return view


def _check_tables(
    names: list[str], lengths: NDArray[np.int32], num_embeddings: NDArray[np.int64]
) -> None:
    if not names:
        raise ValueError("table_names are empty, expected one or more tables")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"table_names hold {twice!r} more than once, expected each once")
    for what, found in (("lengths", len(lengths)), ("num_embeddings", len(num_embeddings))):
        if found != len(names):
            raise ValueError(f"{what} are of {found} tables, expected {len(names)} as table_names")
    for name, rows in zip(names, num_embeddings.tolist(), strict=True):
        if rows < 1:
            raise ValueError(f"num_embeddings of table {name!r} is {rows}, expected at least 1")
    if sum(num_embeddings.tolist()) > np.iinfo(np.int64).max:
        raise ValueError("num_embeddings add up to 2**63 or more rows, expected fewer")


def _check_bags(nnz: int, offsets: NDArray[np.int64], lengths: NDArray[np.int32]) -> None:
    if len(offsets) != lengths.size + 1:
        raise ValueError(
            f"offsets are {len(offsets)}, expected {lengths.size + 1}: one a bag of lengths"
            f" {lengths.shape}, and the end"
        )
    if offsets[0] != 0 or offsets[-1] != nnz:
        raise ValueError(
            f"offsets run from {offsets[0]} to {offsets[-1]}, expected 0 to {nnz}, the number of"
            " indices"
        )
    if lengths.size and lengths.min() < 0:
        raise ValueError(f"lengths hold {lengths.min()}, expected none below 0")
    wrong = np.flatnonzero(np.diff(offsets) != lengths.ravel())
    if len(wrong):
        bag = int(wrong[0])
        raise ValueError(
            f"bag {bag} runs from offset {offsets[bag]} to {offsets[bag + 1]}, expected"
            f" {lengths.ravel()[bag]} lookups as in lengths"
        )


def _check_indices(
    indices: NDArray[np.int64],
    table_starts: NDArray[np.int64],
    names: list[str],
    num_embeddings: NDArray[np.int64],
) -> None:
    if len(indices) == 0:
        return
    for table, (name, rows) in enumerate(zip(names, num_embeddings.tolist(), strict=True)):
        piece = indices[table_starts[table] : table_starts[table + 1]]
        if len(piece) and (piece.min() < 0 or piece.max() >= rows):
            offender = int(piece[(piece < 0) | (piece >= rows)][0])
            raise ValueError(f"indices hold {offender} in table {name!r}, expected 0 to {rows - 1}")
