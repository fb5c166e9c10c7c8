"""A short replay of a policy that has just been trained: its gain in serving, with its cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tieralloc._common.progress import Progress, silent
from tieralloc.policy.directory import Manifest
from tieralloc.tools.replay.replay import replay
from tieralloc.trace import Trace
from tieralloc.trace.stream import count_distinct

#: Simple policies to compare with.
SIMPLE = ("lru", "s3fifo")
_SHARE = 0.1  # of the trace, counted
_WARM_UP = 4  # times the counted samples, at most


def serve_next(
    trace: Trace,
    directory: Path,
    manifest: Manifest,
    *,
    embedding_dim: int,
    batch_size: int,
    file_directory: Path,
    progress: Progress = silent,
) -> tuple[list[dict[str, Any]], bool]:
    """Serve the samples after the training accesses, with each simple policy and the trained one.

    The trained policy runs as a store runs it by default: it may pause. The capacity is the middle
    one of the training. Also returns whether training has seen the counted samples: those at the
    end of the trace, if nothing follows the training accesses.
    """
    counted = max(1, int(_SHARE * trace.num_samples))
    end = trace.sample_of_access(manifest.trace.accesses)
    is_seen = end + batch_size > trace.num_samples
    first = trace.num_samples - counted if is_seen else end
    last = min(first + counted, trace.num_samples)
    begin = max(0, first - _WARM_UP * counted)
    part = trace.samples(begin, last)
    before = trace.samples(begin, first).num_lookups
    capacity = manifest.capacities[len(manifest.capacities) // 2]
    distinct = count_distinct(part.accesses(), int(part.num_embeddings.sum()))
    records = replay(
        part,
        [*SIMPLE, f"{manifest.policy}:{directory}"],
        [min(1.0, capacity.fast_rows / distinct)],
        embedding_dim=embedding_dim,
        batch_size=batch_size,
        directory=file_directory,
        count_from=before / part.num_lookups,
        auto_pause=True,
        progress=progress,
    )
    for record in records:
        record["fast_fraction"] = capacity.fast_fraction  # of the whole trace, as in training
    return records, is_seen
