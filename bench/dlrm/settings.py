"""Sizes of a run, and the model that it serves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

#: Layers as in torchrec's own DLRM example; the bottom ones end in the embedding dim.
DENSE_FEATURES = 13
BOTTOM_LAYERS = (512, 256)
TOP_LAYERS = (512, 512, 256, 1)


@dataclass(frozen=True)
class Settings:
    """Settings of all baselines."""

    batch_size: int = 32  # samples per request
    embedding_dim: int = 64
    turns: int = 5
    fast_fractions: tuple[float, ...] = (0.05, 0.01)  # all baselines at the first
    load_shares: tuple[float, ...] = (0.8,)  # of LRU's closed-loop rate, arriving in open ones
    num_samples: int = 65536  # of the generated trace, without a recorded one
    epochs: int | None = None  # max of training; None: as many as `tieralloc train` runs
    max_requests: int | None = None  # to warm up with, and to count; None: half of the trace each
    seed: int = 0


FULL = Settings()
#: A run that only tests the command; its figures are meaningless.
QUICK = replace(
    FULL,
    batch_size=16,
    embedding_dim=16,
    turns=2,
    fast_fractions=(0.2,),
    load_shares=(0.5,),
    num_samples=1500,
    epochs=1,
    max_requests=24,
)


@dataclass(frozen=True)
class Cores:
    """The cores of all threads, of the thread that serves, and of the policy's threads."""

    name: str
    all: tuple[int, ...]
    serving: tuple[int, ...]
    policy: tuple[int, ...]


def placements(cores: Sequence[int]) -> list[Cores]:
    """Return the placements: the policy on the core of serving, and on its own core."""
    first, second = tuple(cores[:1]), tuple(cores[1:2])
    shared = Cores("one core", first, first, first)
    if not second:
        return [shared]
    return [shared, Cores("two cores", first + second, first, second)]
