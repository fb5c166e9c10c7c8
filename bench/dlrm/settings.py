"""How large a run is, and what model it serves."""

from __future__ import annotations

from dataclasses import dataclass

#: Layers as torchrec's own DLRM example has them; the bottom ones end in the embedding dim.
DENSE_FEATURES = 13
BOTTOM_LAYERS = (512, 256)
TOP_LAYERS = (512, 512, 256, 1)


@dataclass(frozen=True)
class Settings:
    """What all contenders have in common."""

    batch_size: int  # samples a request
    embedding_dim: int
    segments: int  # alternations
    fast_fractions: tuple[float, ...]  # of all contenders the first, of some the others
    load_shares: tuple[float, ...]  # of what LRU reaches in a closed loop, to arrive in an open one
    fixed_rate: float | None  # instead: requests a second, in turn with the closed loop
    num_samples: int  # of the trace that is generated where there is none
    epochs: int | None = None  # of training, at most; None: as many as `tieralloc train` does
    read_iops: int | None = None  # reads a second that the disk serves at most; None: as it can
    most_requests: int | None = None  # to warm up with, and to count; None: the trace's halves
    seed: int = 0


FULL = Settings(
    batch_size=32,
    embedding_dim=64,
    segments=5,
    fast_fractions=(0.05, 0.01, 0.2),
    load_shares=(0.5, 0.8),
    fixed_rate=None,
    num_samples=65536,
)

#: A run that shows that everything works; its figures mean nothing.
QUICK = Settings(
    batch_size=16,
    embedding_dim=16,
    segments=2,
    fast_fractions=(0.2,),
    load_shares=(),
    fixed_rate=200.0,
    num_samples=1500,
    epochs=1,
    most_requests=24,
)
