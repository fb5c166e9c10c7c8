"""Draws the rooms of the code and the dependencies between them, as Mermaid, from the code itself.

``python docs/rooms.py`` rewrites the drawings in docs/architecture.md; the tests check that they
are up to date. A dependency that follows from others is left out.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
CORE = ROOT / "tieralloc" / "_core"

Graph = dict[str, set[str]]


def core_graph() -> Graph:
    """Rooms of the C++ core, each with the rooms that its files include."""
    graph: Graph = {room.name: set() for room in CORE.iterdir() if room.is_dir()}
    for path in sorted(CORE.rglob("*.[hci]*")):
        room = path.relative_to(CORE).parts[0]
        for include in re.findall(r'#include "([^"/]+)/', path.read_text()):
            if include in graph and include != room:
                graph[room].add(include)
    return graph


def package_graph() -> Graph:
    """Rooms and modules of the package, each with those that it imports, types aside."""
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
    return {room: {each for each in uses if each in graph} for room, uses in graph.items()}


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
    """Leave out dependencies that follow from others."""

    def reach(room: str, without: str | None = None) -> set[str]:
        seen: set[str] = set()
        pending = [each for each in graph[room] if each != without]
        while pending:
            each = pending.pop()
            if each not in seen:
                seen.add(each)
                pending += graph[each]
        return seen

    return {
        room: {each for each in uses if each not in reach(room, without=each)}
        for room, uses in graph.items()
    }


def mermaid(graph: Graph) -> str:
    """Return a drawing of a graph."""
    edges = [
        f"  {room} --> {each}"
        for room, uses in sorted(reduced(graph).items())
        for each in sorted(uses)
    ]
    return "\n".join(["```mermaid", "flowchart TD", *edges, "```"])


def drawn(page: str) -> str:
    """Return the text of the page with its drawings made from the code."""
    for name, graph in (("package", package_graph()), ("core", core_graph())):
        begin, end = f"<!-- rooms: {name} -->\n", "\n<!-- end -->"
        before, _, rest = page.partition(begin)
        page = before + begin + mermaid(graph) + end + rest.partition(end)[2]
    return page


if __name__ == "__main__":
    PAGE.write_text(drawn(PAGE.read_text()))
