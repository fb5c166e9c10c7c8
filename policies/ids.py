"""An id space in which nearness means co-access: rows in an order learned from what they follow.

Hashed ids have no geometry. Here rows that were accessed close to each other lie close to each
other, on a line from 0 to 1, so that a model can take a row as a number and emit one.

The order comes from the graph of co-accesses in two steps. First the rows that belong together most
are merged into pairs, pairs of pairs and so on (heavy-edge matching, as multilevel partitioning
has it), which decides who is next to whom. Then the groups are laid out on the line by power
iteration: each moves towards the mean of its neighbours, and all are spread out evenly again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WINDOW = 5  # accesses apart at most, to be co-accesses
_MERGES = 12
_ITERATIONS = 60


@dataclass(frozen=True, eq=False)
class IdSpace:
    """An order of all rows.

    Parameters
    ----------
    order : (rows,) uint64
        Each row once, from one end of the line to the other.
    """

    order: NDArray[np.uint64]

    @cached_property
    def positions(self) -> NDArray[np.float64]:
        """Where each row lies, (rows,) in [0, 1], evenly spaced."""
        positions = np.empty(len(self.order))
        positions[self.order] = np.arange(len(self.order)) / max(len(self.order) - 1, 1)
        return positions

    def nearest(self, points: NDArray[np.floating]) -> NDArray[np.uint64]:
        """Return the row nearest to each point, whatever its shape; beyond the ends, the last."""
        last = len(self.order) - 1
        ranks = np.rint(np.clip(points, 0, 1).astype(np.float64) * last).astype(np.int64)
        rows: NDArray[np.uint64] = self.order[ranks]
        return rows


def learn_id_space(accesses: NDArray[np.uint64], rows: int, seed: int = 0) -> IdSpace:
    """Order rows by the accesses that are to be learned from.

    Parameters
    ----------
    accesses : (n,) uint64
        Rows, 0 to ``rows - 1``, in time order; those of the training part alone.
    rows : int
        How many there are. Rows that were not accessed follow those that were, in the order of
        their numbers: table by table.
    seed : int
        Of the order that the iteration starts from.

    Raises
    ------
    ValueError
        For no rows, or a row out of range.
    """
    if rows < 1:
        raise ValueError(f"rows are {rows}, expected at least 1")
    if len(accesses) and int(accesses.max()) >= rows:
        raise ValueError(f"accesses hold row {accesses.max()}, expected below {rows}")
    seen, nodes = np.unique(accesses, return_inverse=True)
    order = seen[_order_nodes(nodes, len(seen), seed)]
    unseen = np.ones(rows, dtype=bool)
    unseen[seen] = False
    return IdSpace(np.concatenate([order, np.flatnonzero(unseen).astype(np.uint64)]))


@dataclass(frozen=True, eq=False)
class _Graph:
    """Undirected and weighted, each edge once."""

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
        """Add up parallel edges, and drop those from a node to itself."""
        apart = first != second
        first, second, weight = first[apart], second[apart], weight[apart]
        keys = np.minimum(first, second) * nodes + np.maximum(first, second)
        keys, edge = np.unique(keys, return_inverse=True)
        total = np.bincount(edge, weight, len(keys)).astype(np.float64)
        return cls(nodes, keys // nodes, keys % nodes, total)

    def both_ways(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Origins, ends and weights of all edges in both directions."""
        return (
            np.concatenate([self.first, self.second]),
            np.concatenate([self.second, self.first]),
            np.concatenate([self.weight, self.weight]),
        )


def _order_nodes(accesses: NDArray[np.int64], nodes: int, seed: int) -> NDArray[np.int64]:
    graph = _co_accesses(accesses, nodes)
    group, place, size = np.arange(nodes), np.zeros(nodes), np.ones(nodes)
    for _ in range(_MERGES):
        merged, offset = _match(graph, size)
        place += offset[group]
        group = merged[group]
        size = np.bincount(merged, size).astype(np.float64)
        graph = _Graph.of(len(size), merged[graph.first], merged[graph.second], graph.weight)
    return np.lexsort((place, _lay_out(graph, seed)[group]))


def _co_accesses(accesses: NDArray[np.int64], nodes: int) -> _Graph:
    """Weigh how often rows occur close together against how often each occurs at all."""
    distances = range(1, min(_WINDOW, len(accesses) - 1) + 1)
    earlier = [accesses[:-distance] for distance in distances]
    later = [accesses[distance:] for distance in distances]
    nothing = np.empty(0, dtype=np.int64)
    first, second = np.concatenate([nothing, *earlier]), np.concatenate([nothing, *later])
    counted = _Graph.of(nodes, first, second, np.ones(len(first)))
    often = np.bincount(accesses, minlength=nodes).astype(np.float64)
    expected = np.sqrt(often[counted.first] * often[counted.second])
    return _Graph(nodes, counted.first, counted.second, counted.weight / expected)


def _match(
    graph: _Graph, size: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Merge each two nodes that are each other's heaviest neighbour.

    Returns the new node of each node, and what to add to the places of its rows there.
    """
    origin, end, weight = graph.both_ways()
    # Small groups first, so that none swallows all.
    affinity = weight / np.sqrt(size[origin] * size[end])
    by_origin = np.lexsort((affinity, origin))
    heaviest = by_origin[np.append(np.diff(origin[by_origin]) != 0, True)] if len(origin) else []
    partner = np.arange(graph.nodes)
    partner[origin[heaviest]] = end[heaviest]
    own = np.arange(graph.nodes)
    second = (partner[partner] == own) & (partner < own)
    kept = np.cumsum(~second) - 1
    offset = np.where(second, size[partner], 0.0)
    return np.where(second, kept[partner], kept), offset


def _lay_out(graph: _Graph, seed: int) -> NDArray[np.float64]:
    """Find a place on the line for each node, near its neighbours."""
    places = np.random.default_rng(seed).random(graph.nodes)
    origin, end, weight = graph.both_ways()
    total = np.bincount(end, weight, graph.nodes)
    linked = total > 0
    for _ in range(_ITERATIONS):
        pull = np.bincount(end, weight * places[origin], graph.nodes)[linked] / total[linked]
        places[linked] = (places[linked] + pull) / 2
        places[np.argsort(places, kind="stable")] = np.arange(graph.nodes) / graph.nodes
    return places
