"""An id space: an order of all rows in which co-accessed rows are neighbours.

Hashed ids have no geometry. The id space places each row on a line from 0 to 1, near the rows that
were accessed close to it. So a model can take a row as a number, and emit one.

The order comes from the weighted graph of co-accesses:

1. Merge each two nodes that are each other's heaviest neighbour, 12 times (heavy-edge matching:
   Karypis and Kumar, SIAM J. Sci. Comput. 1998). This orders the rows of each group.
2. Place the groups on the line by power iteration: move each halfway to the mean of its neighbours,
   then spread all evenly, 60 times.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WINDOW = 5  # max distance of two co-accesses, in accesses
_MERGES = 12
_ITERATIONS = 60


@dataclass(frozen=True, eq=False)
class IdSpace:
    """An order of all rows."""

    order: NDArray[np.uint64]  # (rows,): each row once, by ascending position

    @cached_property
    def positions(self) -> NDArray[np.float64]:
        """Position of each row, (rows,) in [0, 1], evenly spaced."""
        positions = np.empty(len(self.order))
        positions[self.order] = np.arange(len(self.order)) / max(len(self.order) - 1, 1)
        return positions

    def nearest(self, points: NDArray[np.floating]) -> NDArray[np.uint64]:
        """Return the row nearest to each point, in the shape of `points`; they are clamped."""
        last = len(self.order) - 1
        ranks = np.rint(np.clip(points, 0, 1).astype(np.float64) * last).astype(np.int64)
        rows: NDArray[np.uint64] = self.order[ranks]
        return rows


def learn_id_space(accesses: NDArray[np.uint64], rows: int, seed: int = 0) -> IdSpace:
    """Learn the order of rows from the accesses of a training, (n,) uint64 in time order.

    Rows without access come last, by ascending number. ValueError if `rows` is below 1, or an
    access is not below it.
    """
    if rows < 1:
        raise ValueError(f"rows: expected at least 1, got {rows}")
    if len(accesses) and int(accesses.max()) >= rows:
        raise ValueError(f"accesses: expected rows below {rows}, got {accesses.max()}")
    seen, nodes = np.unique(accesses, return_inverse=True)
    order = seen[_order_nodes(nodes, len(seen), seed)]
    unseen = np.ones(rows, dtype=bool)
    unseen[seen] = False
    return IdSpace(np.concatenate([order, np.flatnonzero(unseen).astype(np.uint64)]))


@dataclass(frozen=True, eq=False)
class _Graph:
    """An undirected weighted graph; each edge is stored once."""

    nodes: int
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    weight: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        nodes: int,
        first: NDArray[np.int64],
        second: NDArray[np.int64],
        weight: NDArray[np.float64],
    ) -> _Graph:
        """Make a graph: add up parallel edges, drop self-loops."""
        is_edge = first != second
        first, second, weight = first[is_edge], second[is_edge], weight[is_edge]
        keys = np.minimum(first, second) * nodes + np.maximum(first, second)
        keys, edge = np.unique(keys, return_inverse=True)
        total = np.bincount(edge, weight, len(keys)).astype(np.float64)
        return cls(nodes, keys // nodes, keys % nodes, total)

    def directed_edges(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Return origins, ends and weights of all edges, in both directions."""
        return (
            np.concatenate([self.first, self.second]),
            np.concatenate([self.second, self.first]),
            np.concatenate([self.weight, self.weight]),
        )


def _order_nodes(accesses: NDArray[np.int64], nodes: int, seed: int) -> NDArray[np.int64]:
    graph = _co_accesses(accesses, nodes)
    group, rank, size = np.arange(nodes), np.zeros(nodes), np.ones(nodes)
    for _ in range(_MERGES):
        merged, offset = _merge_pairs(graph, size)
        rank += offset[group]
        group = merged[group]
        size = np.bincount(merged, size).astype(np.float64)
        graph = _Graph.of(len(size), merged[graph.first], merged[graph.second], graph.weight)
    return np.lexsort((rank, _group_positions(graph, seed)[group]))


def _co_accesses(accesses: NDArray[np.int64], nodes: int) -> _Graph:
    """Return the graph of co-accesses: edge weight = co-accesses / sqrt(product of accesses)."""
    distances = range(1, min(_WINDOW, len(accesses) - 1) + 1)
    earlier = [accesses[:-distance] for distance in distances]
    later = [accesses[distance:] for distance in distances]
    empty = np.empty(0, dtype=np.int64)
    first, second = np.concatenate([empty, *earlier]), np.concatenate([empty, *later])
    pairs = _Graph.of(nodes, first, second, np.ones(len(first)))
    counts = np.bincount(accesses, minlength=nodes).astype(np.float64)
    norm = np.sqrt(counts[pairs.first] * counts[pairs.second])
    return _Graph(nodes, pairs.first, pairs.second, pairs.weight / norm)


def _merge_pairs(
    graph: _Graph, size: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Merge each two nodes that are each other's heaviest neighbour.

    Returns the new node of each node, and the offset of its rows' ranks within the new node.
    """
    origin, end, weight = graph.directed_edges()
    # Prefer small groups: otherwise one group absorbs all.
    affinity = weight / np.sqrt(size[origin] * size[end])
    by_origin = np.lexsort((affinity, origin))
    heaviest = by_origin[np.append(np.diff(origin[by_origin]) != 0, True)] if len(origin) else []
    partner = np.arange(graph.nodes)
    partner[origin[heaviest]] = end[heaviest]
    own = np.arange(graph.nodes)
    is_merged = (partner[partner] == own) & (partner < own)
    new = np.cumsum(~is_merged) - 1
    offset = np.where(is_merged, size[partner], 0.0)
    return np.where(is_merged, new[partner], new), offset


def _group_positions(graph: _Graph, seed: int) -> NDArray[np.float64]:
    """Return a position on the line for each node, near its neighbours."""
    positions = np.random.default_rng(seed).random(graph.nodes)
    origin, end, weight = graph.directed_edges()
    total = np.bincount(end, weight, graph.nodes)
    linked = total > 0
    for _ in range(_ITERATIONS):
        mean = np.bincount(end, weight * positions[origin], graph.nodes)[linked] / total[linked]
        positions[linked] = (positions[linked] + mean) / 2
        positions[np.argsort(positions, kind="stable")] = np.arange(graph.nodes) / graph.nodes
    return positions
