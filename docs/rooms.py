"""Draw the rooms of the code and their dependencies, from the code, as SVG.

``python docs/rooms.py`` updates the drawings of docs/architecture.md; a test checks that they are
up to date. Dependencies that follow from others are omitted.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
CORE = ROOT / "tieralloc" / "_core"

Graph = dict[str, set[str]]

_COLUMN, _ROW, _BOX = 120, 64, (100, 30)
_HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" \
font-family="sans-serif" font-size="14">
<marker id="tip" markerWidth="8" markerHeight="8" refX="2" refY="3" orient="auto">\
<path d="M0 0L7 3L0 6z" fill="#5b6b82"/></marker>
<rect width="100%" height="100%" fill="white"/>"""


def core_graph() -> Graph:
    """Return the rooms of the C++ core, each with the rooms that it includes."""
    graph: Graph = {room.name: set() for room in CORE.iterdir() if room.is_dir()}
    for path in sorted(CORE.rglob("*.[hci]*")):
        room = path.relative_to(CORE).parts[0]
        for include in re.findall(r'#include "([^"/]+)/', path.read_text()):
            if include in graph and include != room:
                graph[room].add(include)
    return graph


def package_graph() -> Graph:
    """Return the rooms of the package, each with the rooms that it imports, except for types."""
    graph: Graph = {}
    for root, prefix in (
        (ROOT / "tieralloc", "tieralloc"),
        (ROOT / "policies", "tieralloc.policies"),
    ):
        for path in sorted(root.rglob("*.py")):
            parts = (*prefix.split("."), *path.relative_to(root).with_suffix("").parts)
            room = _room(parts)
            if room:
                graph.setdefault(room, set()).update(set(_imported_rooms(path)) - {room})
    return {room: targets & graph.keys() for room, targets in graph.items()}


def _imported_rooms(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tieralloc"):
            for name in node.names:
                yield _room((*str(node.module).split("."), name.name))


def _room(parts: tuple[str, ...]) -> str:
    name = parts[1] if len(parts) > 1 else ""
    return "" if name in ("__init__", "__main__", "__version__") else name


def reduced(graph: Graph) -> Graph:
    """Return the graph without dependencies that follow from others."""

    def reachable(room: str, without: str) -> set[str]:
        reached: set[str] = set()
        pending = [target for target in graph[room] if target != without]
        while pending:
            target = pending.pop()
            if target not in reached:
                reached.add(target)
                pending += graph[target]
        return reached

    return {
        room: {target for target in targets if target not in reachable(room, without=target)}
        for room, targets in graph.items()
    }


def layers(graph: Graph) -> list[list[str]]:
    """Return the rooms in rows, each below all rooms that depend on it."""
    users = {room: {user for user in graph if room in graph[user]} for room in graph}

    def depth(room: str) -> int:
        return 1 + max(map(depth, users[room]), default=-1)

    rows: list[list[str]] = [[] for _ in range(1 + max(map(depth, graph)))]
    place: dict[str, float] = {}
    for room in sorted(graph, key=lambda room: (depth(room), room)):
        rows[depth(room)].append(room)
    for row in rows:
        # Below the middle of its users, so that few arrows cross. In order: sums of floats depend
        # on the order of a set, which differs from run to run.
        row.sort(
            key=lambda room: sum(place[u] for u in sorted(users[room])) / max(1, len(users[room]))
        )
        place.update({room: (at + 0.5) / len(row) for at, room in enumerate(row)})
    return rows


def svg(graph: Graph) -> str:
    """Return a drawing of a graph."""
    graph = reduced(graph)
    rows = layers(graph)
    width = max(len(row) for row in rows) * _COLUMN
    center = {
        room: (round(width * (at + 0.5) / len(row)), level * _ROW + _ROW // 2)
        for level, row in enumerate(rows)
        for at, room in enumerate(row)
    }
    arrows, boxes = [], []
    for room, (x, y) in sorted(center.items()):
        boxes.append(
            f'<rect x="{x - _BOX[0] // 2}" y="{y - _BOX[1] // 2}" width="{_BOX[0]}" '
            f'height="{_BOX[1]}" rx="4" fill="#eef2f7" stroke="#5b6b82"/>'
            f'<text x="{x}" y="{y + 5}" text-anchor="middle">{room}</text>'
        )
        for target in sorted(graph[room]):
            to_x, to_y = center[target]
            top, bottom = y + _BOX[1] // 2, to_y - _BOX[1] // 2 - 6
            bend = (bottom - top) // 2
            arrows.append(
                f'<path d="M{x} {top}C{x} {top + bend} {to_x} {bottom - bend} {to_x} {bottom}" '
                'fill="none" stroke="#5b6b82" marker-end="url(#tip)"/>'
            )
    return "\n".join(
        [_HEAD.format(width=width, height=len(rows) * _ROW), *arrows, *boxes, "</svg>\n"]
    )


def drawings() -> dict[Path, str]:
    """Return the text of each drawing, by its path."""
    graphs = {"package": package_graph(), "core": core_graph()}
    return {ROOT / "docs" / f"rooms-{name}.svg": svg(graph) for name, graph in graphs.items()}


if __name__ == "__main__":
    for path, text in drawings().items():
        path.write_text(text)
