"""A partition into pages without further packages: greedy agglomeration.

    pairs of rows, the nearest first:  merge their groups if both fit into a page
    repeat with the groups as rows, as long as groups merge
    fill pages with the groups that are left, the largest first

Cost: O(pairs log pairs) per round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tieralloc.tools.arrange.hypergraph import Hypergraph

__all__ = ["partition"]

_ROUNDS = 8


def partition(graph: Hypergraph, rows_per_page: int, seed: int) -> NDArray[np.int64]:
    """Return the page of each node; `seed` has no effect."""
    first, second, weight = graph.pairs
    one_way = first < second
    first, second, weight = first[one_way], second[one_way], weight[one_way]
    group = np.arange(len(graph.rows))
    sizes = np.ones(len(group), dtype=np.int64)
    for _ in range(_ROUNDS):
        merged = _merge(first, second, weight, sizes, rows_per_page)
        labels, merged = np.unique(merged, return_inverse=True)
        if len(labels) == len(sizes):
            break
        group = merged[group]
        sizes = np.bincount(merged, weights=sizes).astype(np.int64)
        first, second, weight = _between(merged[first], merged[second], weight, sizes)
    return _pack(sizes, rows_per_page)[group]


def _merge(
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    weight: NDArray[np.float64],
    sizes: NDArray[np.int64],
    capacity: int,
) -> NDArray[np.int64]:
    """Return the group of each node."""
    parent = list(range(len(sizes)))
    size = sizes.tolist()

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    order = np.argsort(-weight, kind="stable")
    for a, b in zip(first[order].tolist(), second[order].tolist(), strict=True):
        a, b = root(a), root(b)
        if a != b and size[a] + size[b] <= capacity:
            parent[b] = a
            size[a] += size[b]
    return np.array([root(node) for node in range(len(size))], dtype=np.int64)


def _between(
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    weight: NDArray[np.float64],
    sizes: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return the pairs of different groups: the sum of their weights, per row of both."""
    apart = first != second
    low, high = np.minimum(first, second)[apart], np.maximum(first, second)[apart]
    keys, inverse = np.unique(low * len(sizes) + high, return_inverse=True)
    low, high = keys // len(sizes), keys % len(sizes)
    total = np.bincount(inverse, weights=weight[apart])
    return low, high, total / np.sqrt(sizes[low] * sizes[high])


def _pack(sizes: NDArray[np.int64], capacity: int) -> NDArray[np.int64]:
    """Return the page of each group: the fullest page that has room for it."""
    pages = np.empty(len(sizes), dtype=np.int64)
    by_room: list[list[int]] = [[] for _ in range(capacity + 1)]
    count = 0
    for group in np.argsort(-sizes, kind="stable").tolist():
        size = int(sizes[group])
        room = next((room for room in range(size, capacity + 1) if by_room[room]), capacity)
        if by_room[room]:
            page = by_room[room].pop()
        else:
            page, count = count, count + 1
        by_room[room - size].append(page)
        pages[group] = page
    return pages
