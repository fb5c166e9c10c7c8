"""The trained `recmg` policy: loads its directory, makes the model for stores and the simulator."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from tieralloc.policies.directory import LoadedPolicy, checking
from tieralloc.policies.recmg.horizons import PREFETCH_INTERVALS
from tieralloc.policies.recmg.networks import load_network

from tieralloc._bindings import (
    MAX_CONTEXTS,
    ROW_FEATURES_VERSION,
    LearnedModel,
    Network,
    candidate_feature_names,
    row_feature_names,
)
from tieralloc.policy.directory import FeatureSpec, PolicyDirectory, read_policy

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Self

POLICY = "recmg"

FEATURES = FeatureSpec("row history", ROW_FEATURES_VERSION, len(row_feature_names()))

#: Number of features of a prefetch candidate.
CANDIDATE_WIDTH = FEATURES.width + len(candidate_feature_names())


@dataclass(frozen=True)
class Scales:
    """The parameters of a model beside its networks."""

    #: Upper ends of the intervals of the caching network, in accesses, ascending.
    intervals: Sequence[int]
    horizons: Sequence[int]  # horizons within which the core counts uses, in accesses, ascending
    #: Capacities, ascending, and the accesses after which LRU evicts at each.
    eviction_ages: Sequence[tuple[int, float]]
    contexts: Sequence[int]  # numbers of context tables

    @classmethod
    def of(cls, settings: Mapping[str, Any], num_tables: int) -> Scales:
        """Parse the settings of a manifest; ValueError names a missing or invalid one."""
        scales = cls(
            _parse_list(settings, "intervals", "whole numbers", _parse_uint32),
            _parse_list(settings, "horizons", "whole numbers", _parse_uint32),
            _parse_list(settings, "eviction_ages", "pairs of a capacity and an age", _parse_age),
            _parse_list(settings, "contexts", "numbers of tables", _parse_uint32),
        )
        capacities = [rows for rows, _ in scales.eviction_ages]
        _check_ascending("intervals", scales.intervals)
        _check_ascending("horizons", scales.horizons)
        _check_ascending("capacities of eviction_ages", capacities)
        if not all(0 < age < np.inf for _, age in scales.eviction_ages):
            raise ValueError(f"eviction_ages must be above 0, got {settings['eviction_ages']}")
        if len(scales.contexts) > MAX_CONTEXTS or not all(
            table < num_tables for table in scales.contexts
        ):
            raise ValueError(
                f"contexts must be at most {MAX_CONTEXTS} of {num_tables} tables, got"
                f" {list(scales.contexts)}"
            )
        return scales

    def model(self, caching: Network, prefetch: Network | None = None) -> LearnedModel:
        """Return the model of these networks."""
        return LearnedModel(
            caching, prefetch, prefetch_intervals=PREFETCH_INTERVALS, **asdict(self)
        )


def _parse_list(
    settings: Mapping[str, Any], name: str, expected: str, parse: Callable[[Any], Any]
) -> list[Any]:
    if not isinstance(settings.get(name), list):
        raise ValueError(f"{name} must be a list, got {settings.get(name)!r}")
    try:
        return [parse(value) for value in settings[name]]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be {expected}, got {settings[name]}") from error


def _parse_uint32(value: Any) -> int:
    if not isinstance(value, int) or not 0 <= value < 1 << 32:
        raise TypeError
    return value


def _parse_age(value: Any) -> tuple[int, float]:
    rows, age = value
    return _parse_uint32(rows), float(age)


def _check_ascending(name: str, values: Sequence[int]) -> None:
    if not values or any(a >= b for a, b in zip([0, *values], values, strict=False)):
        raise ValueError(f"{name} must ascend, got {list(values)}")


class RecmgPolicy(LoadedPolicy):
    """The trained `recmg` policy, as `load` returns it."""

    rows_may_grow = True  # no network knows a row by its number

    #: Whether the prefetch network is used, if the directory holds one.
    prefetches = True

    def __init__(
        self, name: str, directory: PolicyDirectory, model: LearnedModel, network_kind: str
    ) -> None:
        super().__init__(name, directory)
        self.model = model
        self.network_kind = network_kind

    @classmethod
    def load(cls, path: str | os.PathLike[str], name: str = POLICY) -> Self:
        """Load a policy directory that `tieralloc train` wrote.

        Loading runs code of the directory: load only policies that you trust.

        Raises
        ------
        ValueError
            If the directory holds another policy, other features, or damaged files.
        OSError
            If the directory cannot be read.
        """
        directory = read_policy(path)
        directory.check_fits(POLICY, FEATURES)
        manifest = directory.manifest
        with checking(directory):
            scales = Scales.of(manifest.settings, len(manifest.tables))
            if "caching" not in directory.models:
                raise ValueError(f"models must have caching, got {sorted(directory.models)}")
        caching = load_network(
            directory, "caching", width=FEATURES.width, outputs=len(scales.intervals)
        )
        prefetch = None
        if cls.prefetches and "prefetch" in directory.models:
            prefetch = load_network(
                directory, "prefetch", width=CANDIDATE_WIDTH, outputs=len(PREFETCH_INTERVALS)
            )
        with checking(directory):
            model = scales.model(caching, prefetch)
        return cls(name, directory, model, caching.kind)

    def model_for(self, fast_rows: int, accesses: NDArray[np.uint64] | None = None) -> LearnedModel:
        """Return the model, which is the same for every fast tier."""
        return self.model


class RecmgCachingPolicy(RecmgPolicy):
    """`RecmgPolicy` without the prefetch network."""

    prefetches = False
