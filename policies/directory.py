"""Policy directories of this package: `PolicyOutput` writes one, a `LoadedPolicy` has one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tieralloc._bindings import belady
from tieralloc._common.files import check_writable, is_decoding_error
from tieralloc.policy.directory import (
    Capacity,
    FeatureSpec,
    Manifest,
    PolicyDirectory,
    TrainingTrace,
    fingerprint,
    write_policy,
)
from tieralloc.policy.simulator import run_simulator
from tieralloc.trace.stream import count_distinct, fast_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tieralloc.trace import Trace
    from tieralloc.trace.stream import Stream


class PolicyOutput:
    """The policy directory that a training writes; created if it does not exist.

    Capacities are fractions of the distinct rows of the whole trace, rounded down; ValueError if
    one is out of range. OSError if the directory is not writable: before the training, not after
    it.
    """

    def __init__(
        self, trace: Trace, directory: str | os.PathLike[str], fast_fractions: Sequence[float]
    ) -> None:
        self._trace = trace
        self._path = Path(directory)
        self._path.mkdir(parents=True, exist_ok=True)
        check_writable(self._path / "manifest.json")
        self.checkpoints = self._path / ".checkpoints"
        distinct = count_distinct(trace.accesses(), int(trace.num_embeddings.sum()))
        self.capacities = [
            Capacity(fraction, fast_rows(fraction, distinct)) for fraction in fast_fractions
        ]

    def write(
        self,
        policy: str,
        features: FeatureSpec,
        *,
        num_accesses: int,
        seed: int,
        settings: Mapping[str, Any],
        validation: Sequence[Mapping[str, Any]],
        models: Mapping[str, bytes],
        arrays: Mapping[str, NDArray[Any]],
    ) -> Manifest:
        """Write the policy, remove its checkpoints and return its manifest.

        `num_accesses` is the number of training accesses, `validation` the metrics of each
        capacity; other parameters as for `Manifest` and `write_policy`.
        """
        trace = self._trace
        manifest = Manifest(
            policy=policy,
            features=features,
            tables=tables_of(trace),
            trace=TrainingTrace(trace.name, fingerprint(trace.accesses()), num_accesses),
            capacities=self.capacities,
            seed=seed,
            settings=settings,
            metrics={"validation": validation},
        )
        write_policy(self._path, manifest, models, arrays)
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        return manifest


class LoadedPolicy:
    """A policy, its name in records, and the directory it was loaded from."""

    rows_may_grow = False

    def __init__(self, name: str, directory: PolicyDirectory) -> None:
        self.name = name
        self.directory = directory

    def check(self, trace: Trace) -> None:
        """Raise ValueError if the tables of a trace differ from those of the training trace."""
        self.directory.check_tables(tables_of(trace))


@contextmanager
def checking(directory: PolicyDirectory) -> Iterator[None]:
    """Turn errors about the contents of a directory into ValueErrors that name it."""
    try:
        yield
    except Exception as error:
        if not is_decoding_error(error):
            raise
        reason = error if isinstance(error, ValueError) else repr(error)
        policy = directory.manifest.policy
        raise ValueError(f"{directory.path}: invalid {policy} policy: {reason}") from error


def tables_of(trace: Trace) -> list[tuple[str, int]]:
    """Return the names and row numbers of the tables of a trace."""
    return list(zip(trace.table_names, trace.num_embeddings.tolist(), strict=True))


def miss_ratio(counts: Mapping[str, int]) -> float:
    """Return the miss ratio of the counts of a simulation."""
    return counts["on_demand_fetches"] / counts["lookups"]


def reference_miss_ratios(stream: Stream, rows: int, count_from: int) -> dict[str, float]:
    """Return the miss ratios of LRU and OPT with a fast tier of `rows`."""
    lru = run_simulator(stream, "lru", rows, count_from=count_from)
    opt = belady(stream.accesses, stream.rows, rows, count_from=count_from)
    return {"lru": miss_ratio(lru.counts), "opt": miss_ratio(opt)}
