"""What recmg does where what it learned does not hold: second halves that are not as the first.

Takes the policies that `make policies` left in ``build/policies`` (seed 0), changes the second half
of each trace in ways that a model cannot know of, replays, and writes ``adversity.md``: on-demand
fetches beside those of the best simple policy, and of the same policy without prefetching.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.policies import study
from bench.policies.jobs import Job, Tell
from bench.policies.study import line
from tieralloc import trace as traces
from tieralloc.tools.report import percent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tieralloc.trace import Trace

    #: From a table's lookups in the second half, in time order, and its rows to other lookups.
    Change = Callable[[NDArray[np.int64], int, np.random.Generator], NDArray[np.int64]]

CACHING, AHEAD = "recmg-caching", "recmg"
SIMPLE = ("s3fifo", "lru", "sieve")
_PIECES = 16
FRACTIONS = (0.01, 0.1)


def renamed(
    lookups: NDArray[np.int64], rows: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """All rows change their numbers."""
    return random.permutation(rows)[lookups]


def drifting(
    lookups: NDArray[np.int64], rows: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """All rows change their numbers again and again."""
    pieces = np.array_split(lookups, _PIECES)
    return np.concatenate([renamed(piece, rows, random) for piece in pieces])


def shuffled(
    lookups: NDArray[np.int64], rows: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """What is looked up stays, but nothing foretells when."""
    return random.permutation(lookups)


def scanned(
    lookups: NDArray[np.int64], rows: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """Every other while, rows are looked up one after another."""
    pieces = np.array_split(lookups, _PIECES)
    first = 0
    for number in range(0, _PIECES, 2):
        scan = (first + np.arange(len(pieces[number]))) % rows
        first += len(scan)
        pieces[number] = scan
    return np.concatenate(pieces)


def uniform(
    lookups: NDArray[np.int64], rows: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """Any row is as likely as any other."""
    return random.integers(0, rows, len(lookups))


def zipf(lookups: NDArray[np.int64], rows: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Popularity is as 1 / rank, of ranks that have nothing to do with the past."""
    shares = 1 / np.arange(1, rows + 1)
    drawn = random.choice(rows, len(lookups), p=shares / shares.sum())
    return random.permutation(rows)[drawn]


CHANGES: Mapping[str, Change] = {
    change.__name__: change for change in (renamed, drifting, shuffled, scanned, uniform, zipf)
}


def changed(made: Trace, change: Change, seed: int = 0) -> Trace:
    """Return a trace whose second half of samples looks up something else, as often."""
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


def count(change: str, path: Path, directory: Path, tell: Tell) -> list[dict[str, Any]]:
    """Replay a changed trace under simple policies and both learned ones; return records."""
    from tieralloc.policy.registry import with_learned
    from tieralloc.tools.simulate import simulate

    made = changed(traces.read(path), CHANGES[change])
    tell("replaying")
    learned = with_learned([f"{name}:{directory}" for name in (CACHING, AHEAD)])
    return simulate(made, [*SIMPLE, *learned], FRACTIONS)


def table(names: Sequence[str], found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Lay out what was found: a line for each trace and change."""
    heads = [percent(fraction) for fraction in FRACTIONS]
    lines = [
        line(
            [
                "",
                *(f"caching ÷ simple, {head}" for head in heads),
                *(f"recmg ÷ caching, {head}" for head in heads),
            ]
        ),
        line(["---"] * (1 + 2 * len(heads))),
    ]
    worst = [0.0, 0.0]
    for name in names:
        for change in CHANGES:
            beside_simple, beside_caching = [], []
            for fraction in FRACTIONS:
                misses = {
                    record["policy"].partition(":")[0]: record["on_demand_fetches"]
                    for record in found[f"{change}, {name}"]
                    if record["fast_fraction"] == fraction
                }
                beside_simple.append(misses[CACHING] / min(misses[name] for name in SIMPLE))
                beside_caching.append(misses[AHEAD] / misses[CACHING])
            worst = [max(worst[0], *beside_simple), max(worst[1], *beside_caching)]
            cells = [f"{ratio:.4f}" for ratio in (*beside_simple, *beside_caching)]
            lines.append(line([f"{name} {change}", *cells]))
    about = "\n".join(f"- {name}: {change.__doc__}" for name, change in CHANGES.items())
    return (
        "# Where what was learned does not hold\n\n"
        "recmg as trained on the first half of each trace; the second half, which is counted, is"
        f" changed. On-demand fetches of recmg-caching ÷ those of the best of {', '.join(SIMPLE)},"
        " and of recmg ÷ those of recmg-caching. One seed; `python -m bench.policies.adversity`"
        f" after `make policies`.\n\n{about}\n\n" + "\n".join(lines) + "\n\n"
        f"Worst: {worst[0]:.4f} and {worst[1]:.4f}.\n"
    )


def jobs_for(path: Path, directory: Path) -> list[Job]:
    """Replay a trace with each change."""
    return [Job(f"{change}, {path.stem}", count, (change, path, directory)) for change in CHANGES]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return study.run("adversity", __doc__, jobs_for, table, arguments)


if __name__ == "__main__":
    sys.exit(main())
