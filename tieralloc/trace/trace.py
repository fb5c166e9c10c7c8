"""The trace: the bags of all samples in time order, stored table-major, and its access stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class Trace:
    """The lookups of a recommender: samples in time order, stored table-major.

    Bag ``t * num_samples + b`` has the lookups of sample ``b`` in table ``t``:
    ``indices[offsets[t * num_samples + b] : offsets[t * num_samples + b + 1]]``.
    The arrays of a trace are read-only.

    Parameters
    ----------
    indices : (nnz,) int64
        Rows, each below the `num_embeddings` of its table.
    offsets : (T * B + 1,) int64
        Start of each bag, ascending from 0; the last element is ``nnz``.
    lengths : (T, B) int32
        Number of lookups in each bag.
    table_names : (T,) list of str
        One or more, all different.
    num_embeddings : (T,) int64
        Number of rows of each table, at least 1.
    name : str
        Name of the trace in reports.

    Raises
    ------
    ValueError
        For an array of an invalid dtype or shape, or for arrays that contradict each other.
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
        """Create a trace from its bag lengths (T, B); the offsets are computed."""
        bag_lengths = _integers("lengths", lengths, np.int32, ndim=2)
        if bag_lengths.size and bag_lengths.min() < 0:
            raise ValueError(f"lengths: expected at least 0, got {bag_lengths.min()}")
        return cls(
            np.asarray(indices),
            starts_of(bag_lengths.ravel()),
            bag_lengths,
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
        """Number of tables, T."""
        return len(self.lengths)

    @property
    def num_samples(self) -> int:
        """Number of samples, B; each has one bag per table."""
        return int(self.lengths.shape[1])

    @property
    def num_lookups(self) -> int:
        """Number of accesses, nnz."""
        return len(self.indices)

    @property
    def first_rows(self) -> NDArray[np.int64]:
        """First row of each table if rows are numbered across the tables, (T,) int64."""
        return starts_of(self.num_embeddings)[:-1]

    def accesses(self) -> NDArray[np.uint64]:
        """Return the access stream: every lookup in time order, rows numbered across the tables.

        The order is by sample, then table, then position in the bag. Row ``i`` of table ``t`` has
        number ``first_rows[t] + i``.

        Returns
        -------
        (nnz,) uint64
        """
        sample_major = self.lengths.T.ravel()
        starts = starts_of(sample_major)[:-1]
        bag_starts = self.offsets[:-1].reshape(self.lengths.shape).T.ravel()
        # The table-major position of each access, in sample-major order.
        positions = np.repeat(bag_starts - starts, sample_major)
        positions += np.arange(len(positions))
        table_lookups = self.lengths.sum(axis=1, dtype=np.int64)
        rows = self.indices + np.repeat(self.first_rows, table_lookups)
        accesses: NDArray[np.uint64] = rows[positions].view(np.uint64)
        return accesses

    def batches(self, batch_size: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Iterate over batches of consecutive samples, as arguments of ``store.embedding_bag``.

        Parameters
        ----------
        batch_size : int
            Samples per batch, at least 1; the last batch may have fewer.

        Yields
        ------
        indices : (n,) int64
            Table-major.
        offsets : (T * b + 1,) int64
            From 0, for the ``b`` samples of the batch.

        Raises
        ------
        ValueError
            For a batch size below 1, before the first batch.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
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
                f"samples: expected 0 <= begin <= end <= {self.num_samples}, got begin {begin} and"
                f" end {end}"
            )
        indices, offsets = self._gather(begin, end)
        lengths = self.lengths[:, begin:end].copy()
        return Trace(indices, offsets, lengths, self.table_names, self.num_embeddings, self.name)

    def sample_of_access(self, access: int) -> int:
        """Return the first sample that begins at or after access number `access`.

        Accesses are numbered as in `accesses`. The result is `num_samples` if all samples begin
        before `access`.

        Raises
        ------
        ValueError
            Unless ``0 <= access <= num_lookups``.
        """
        if not 0 <= access <= self.num_lookups:
            raise ValueError(f"access: expected 0 to {self.num_lookups}, got {access}")
        begins = starts_of(self.lengths.sum(axis=0, dtype=np.int64))[:-1]
        return int(np.searchsorted(begins, access, side="left"))

    def _gather(self, begin: int, end: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        tables, samples = self.lengths.shape
        # As Python ints: one slice per table is the only cost of a batch.
        starts = self.offsets[[table * samples + begin for table in range(tables)]].tolist()
        ends = self.offsets[[table * samples + end for table in range(tables)]].tolist()
        indices = np.concatenate(
            [self.indices[a:b] for a, b in zip(starts, ends, strict=True)], dtype=np.int64
        )
        return indices, starts_of(self.lengths[:, begin:end].ravel())


def starts_of(lengths: NDArray[Any]) -> NDArray[np.int64]:
    """Return the start of each of consecutive pieces of these lengths, and the end of the last."""
    starts = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=starts[1:])
    return starts


def _integers(name: str, values: ArrayLike, dtype: type[np.integer[Any]], ndim: int) -> Any:
    """Return an array of integers as a read-only, contiguous array of `dtype`."""
    array = np.asarray(values)
    if array.dtype.kind not in "iu" and array.size:
        raise ValueError(f"{name}: expected integers, got dtype {array.dtype}")
    if array.ndim != ndim:
        raise ValueError(f"{name}: expected {ndim} dimension(s), got shape {array.shape}")
    limits = np.iinfo(dtype)
    if array.size and not np.can_cast(array.dtype, dtype):
        low, high = array.min(), array.max()
        if low < limits.min or high > limits.max:
            raise ValueError(f"{name}: expected values of {np.dtype(dtype)}, got {low} to {high}")
    view = np.ascontiguousarray(array, dtype=dtype).view()
    view.flags.writeable = False
    return view


def _check_tables(
    names: list[str], lengths: NDArray[np.int32], num_embeddings: NDArray[np.int64]
) -> None:
    if not names:
        raise ValueError("table_names: expected at least one table, got none")
    if len(set(names)) != len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"table_names: expected each name once, got {repeated!r} repeatedly")
    for argument, count in (("lengths", len(lengths)), ("num_embeddings", len(num_embeddings))):
        if count != len(names):
            raise ValueError(
                f"{argument}: expected {len(names)} tables, as in table_names, got {count}"
            )
    for name, rows in zip(names, num_embeddings.tolist(), strict=True):
        if rows < 1:
            raise ValueError(f"num_embeddings: expected at least 1, got {rows} for table {name!r}")
    total = sum(num_embeddings.tolist())
    if total > np.iinfo(np.int64).max:
        raise ValueError(f"num_embeddings: expected a sum below 2**63, got {total}")


def _check_bags(nnz: int, offsets: NDArray[np.int64], lengths: NDArray[np.int32]) -> None:
    if len(offsets) != lengths.size + 1:
        raise ValueError(
            f"offsets: expected {lengths.size + 1}, for lengths of shape {lengths.shape}, got"
            f" {len(offsets)}"
        )
    if offsets[0] != 0 or offsets[-1] != nnz:
        raise ValueError(
            f"offsets: expected 0 to {nnz}, the number of indices, got {offsets[0]} to"
            f" {offsets[-1]}"
        )
    if lengths.size and lengths.min() < 0:
        raise ValueError(f"lengths: expected at least 0, got {lengths.min()}")
    differing = np.flatnonzero(np.diff(offsets) != lengths.ravel())
    if len(differing):
        bag = int(differing[0])
        raise ValueError(
            f"bag {bag}: expected {lengths.ravel()[bag]} lookups, as in lengths, got offsets"
            f" {offsets[bag]} to {offsets[bag + 1]}"
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
        part = indices[table_starts[table] : table_starts[table + 1]]
        if len(part) and (part.min() < 0 or part.max() >= rows):
            invalid = int(part[(part < 0) | (part >= rows)][0])
            raise ValueError(f"indices: expected 0 to {rows - 1} in table {name!r}, got {invalid}")
