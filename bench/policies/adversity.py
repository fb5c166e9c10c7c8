"""recmg on traces whose second half differs from the training half.

The second half of each trace is changed in ways that a model cannot know.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.policies import study
from bench.policies.study import Models, Record, Study
from tieralloc import trace as traces

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from tieralloc.trace import Trace

    Rows = NDArray[np.int64]
    #: From a table's lookups in the second half, in time order, and its rows to other lookups.
    Change = Callable[[Rows, int, Generator], Rows]

SIMPLE = ("s3fifo", "lru", "sieve")
FRACTIONS = (0.01, 0.1)
_PIECES = 16


def renamed(lookups: Rows, rows: int, random: Generator) -> Rows:
    """Give all rows other numbers."""
    return random.permutation(rows)[lookups]


def drifting(lookups: Rows, rows: int, random: Generator) -> Rows:
    """Give all rows other numbers, sixteen times."""
    pieces = np.array_split(lookups, _PIECES)
    return np.concatenate([renamed(piece, rows, random) for piece in pieces])


def shuffled(lookups: Rows, rows: int, random: Generator) -> Rows:
    """Keep the lookups, in random order."""
    return random.permutation(lookups)


def scanned(lookups: Rows, rows: int, random: Generator) -> Rows:
    """Replace every second sixteenth by a scan of the rows."""
    pieces = np.array_split(lookups, _PIECES)
    first = 0
    for number in range(0, _PIECES, 2):
        scan = (first + np.arange(len(pieces[number]))) % rows
        first += len(scan)
        pieces[number] = scan
    return np.concatenate(pieces)


def uniform(lookups: Rows, rows: int, random: Generator) -> Rows:
    """Draw rows, each as likely as any other."""
    return random.integers(0, rows, len(lookups))


def zipf(lookups: Rows, rows: int, random: Generator) -> Rows:
    """Draw rows by 1 / rank, with random ranks."""
    shares = 1 / np.arange(1, rows + 1)
    drawn = random.choice(rows, len(lookups), p=shares / shares.sum())
    return random.permutation(rows)[drawn]


CHANGES: dict[str, Change] = {
    change.__name__: change for change in (renamed, drifting, shuffled, scanned, uniform, zipf)
}


def changed(made: Trace, change: Change, seed: int = 0) -> Trace:
    """Return a trace with changed rows in the second half of its samples."""
    random = np.random.default_rng(seed)
    indices = made.indices.copy()
    bounds = made.offsets[:: made.num_samples]
    for table, rows in enumerate(made.num_embeddings.tolist()):
        middle = int(made.offsets[table * made.num_samples + made.num_samples // 2])
        later = slice(middle, int(bounds[table + 1]))
        indices[later] = change(made.indices[later], rows, random)
    return traces.Trace.from_lengths(
        indices, made.lengths, made.table_names, made.num_embeddings, made.name
    )


def measure(case: str, path: Path, models: Models) -> Iterator[Record]:
    """Replay a changed trace under simple policies and both learned ones."""
    from tieralloc.policy.registry import with_learned
    from tieralloc.tools.simulate import simulate

    made = changed(traces.read(path), CHANGES[case])
    learned = with_learned([f"{name}:{models['recmg']}" for name in ("recmg-caching", "recmg")])
    records = simulate(made, [*SIMPLE, *learned], FRACTIONS)
    for fraction in FRACTIONS:
        fetches = {
            record["policy"]: record["on_demand_fetches"]
            for record in records
            if record["fast_fraction"] == fraction
        }
        caching = fetches["recmg-caching"]
        yield {
            "fast_fraction": fraction,
            "caching_to_simple": caching / min(fetches[name] for name in SIMPLE),
            "recmg_to_caching": fetches["recmg"] / caching,
        }


def _worst(records: Sequence[Record]) -> str:
    ratios = ("caching_to_simple", "recmg_to_caching")
    worst = (max(record[name] for record in records) for name in ratios)
    return f"Worst: {' and '.join(f'{each:.3f}' for each in worst)}."


STUDY = Study(
    "adversity",
    "On-demand fetches of recmg-caching ÷ the best of "
    f"{', '.join(SIMPLE)}, and of recmg ÷ recmg-caching, in second halves unlike the first."
    " One seed.",
    measure,
    lambda record: f"{record['caching_to_simple']:.3f}, {record['recmg_to_caching']:.3f}",
    cases=tuple(CHANGES),
    summary=_worst,
)

if __name__ == "__main__":
    sys.exit(study.main(STUDY, __doc__))
