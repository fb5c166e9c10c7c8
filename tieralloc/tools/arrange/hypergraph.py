"""The hypergraph of a table: rows, and which of them samples look up together.

Edges are the samples, and for each row the edge of itself with its nearest rows by the cosine of
their co-occurrences. Edges of the second kind carry what several samples have in common to rows
that few samples have: without them, a partition fits the samples of the past too closely.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tieralloc.trace.trace import starts_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Hypergraph", "hypergraph_of"]

_NEAREST = 8  # rows beside each row
_SAMPLE_WEIGHT = 2  # of a sample's edge, in edges of nearest rows
_MAX_PARTNERS = 32  # of a row in one sample; a longer sample is drawn from
_MAX_PAIRS = 20_000_000


@dataclass(frozen=True, eq=False)
class Hypergraph:
    """Edges of nodes 0 to ``len(rows) - 1``, each of at least two nodes.

    Parameters
    ----------
    rows : (n,) int64
        The row of each node, ascending.
    starts : (edges + 1,) int64
        Edge ``e`` has nodes ``pins[starts[e] : starts[e + 1]]``, ascending.
    pins : (m,) int64
    weights : (edges,) int64
    pairs : tuple of arrays
        Pairs of nodes (first, second, cosine), both ways, by first node, then falling cosine.
    """

    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    pins: NDArray[np.int64]
    weights: NDArray[np.int64]
    pairs: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


def hypergraph_of(
    samples: NDArray[np.int64], rows: NDArray[np.int64], seed: int
) -> Hypergraph | None:
    """Return the hypergraph of lookups in one table; None if no sample has two rows.

    Parameters
    ----------
    samples, rows : (n,) int64
        Sample and row of each lookup.
    seed : int
        Random seed of the pairs drawn from long samples.
    """
    starts, pins = _distinct(samples, rows)
    if len(pins) == 0:
        return None
    nodes, pins = np.unique(pins, return_inverse=True)
    pairs = _pairs(starts, pins, len(nodes), seed)
    near_starts, near_pins = _nearest(pairs, len(nodes))
    lengths = np.concatenate([np.diff(starts), np.diff(near_starts)])
    weights = np.repeat([_SAMPLE_WEIGHT, 1], [len(starts) - 1, len(near_starts) - 1])
    return Hypergraph(nodes, starts_of(lengths), np.concatenate([pins, near_pins]), weights, pairs)


def _distinct(
    samples: NDArray[np.int64], rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the distinct rows of each sample that has at least two."""
    order = np.lexsort((rows, samples))
    samples, rows = samples[order], rows[order]
    is_new = np.ones(len(rows), dtype=bool)
    is_new[1:] = (np.diff(samples) != 0) | (np.diff(rows) != 0)
    samples, rows = samples[is_new], rows[is_new]
    _, sample, lengths = np.unique(samples, return_inverse=True, return_counts=True)
    rows = rows[lengths[sample] > 1]
    return starts_of(lengths[lengths > 1]), rows


def _pairs(
    starts: NDArray[np.int64], pins: NDArray[np.int64], nodes: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return pairs of nodes with the cosine of their co-occurrences, both ways."""
    lengths = np.diff(starts)
    max_partners = max(2, min(_MAX_PARTNERS, _MAX_PAIRS // len(pins)))
    length = np.repeat(lengths, lengths)
    # Partners are the next ones in a random order of the sample, cyclically.
    edge = np.repeat(np.arange(len(lengths)), lengths)
    shuffled = pins[np.lexsort((np.random.default_rng(seed).random(len(pins)), edge))]
    place = np.arange(len(pins)) - starts[:-1][edge]
    keys, shares = [], []
    for step in range(1, max_partners + 1):
        has = np.flatnonzero(step < length)
        partner = starts[:-1][edge[has]] + (place[has] + step) % length[has]
        keys.append(shuffled[has] * nodes + shuffled[partner])
        shares.append(1.0 / np.minimum(length[has] - 1, max_partners))
    joined, inverse = np.unique(np.concatenate(keys), return_inverse=True)
    weight = np.bincount(inverse, weights=np.concatenate(shares))
    first, second = joined // nodes, joined % nodes
    degree = np.bincount(pins, minlength=nodes)
    cosine = weight / np.sqrt(degree[first] * degree[second])
    order = np.lexsort((second, -cosine, first))
    return first[order], second[order], cosine[order]


def _nearest(
    pairs: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]], nodes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return an edge for each node: itself and its nearest nodes."""
    first, second, _ = pairs
    counts = np.bincount(first, minlength=nodes)
    rank = np.arange(len(first)) - np.repeat(starts_of(counts)[:-1], counts)
    near = rank < _NEAREST
    edge = np.concatenate([np.arange(nodes), first[near]])
    pins = np.concatenate([np.arange(nodes), second[near]])
    pins = pins[np.lexsort((pins, edge))]
    return starts_of(np.minimum(counts, _NEAREST) + 1), pins
