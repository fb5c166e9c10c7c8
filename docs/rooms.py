"""Draw the rooms of the code and their dependencies, from the code, as Mermaid.

``python docs/rooms.py`` updates the drawings in docs/architecture.md; a test checks that they are
up to date. Dependencies that follow from others are omitted.
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


def mermaid(graph: Graph) -> str:
    """Return a drawing of a graph."""
    edges = [
        f"  {room} --> {target}"
        for room, targets in sorted(reduced(graph).items())
        for target in sorted(targets)
    ]
    return "\n".join(["```mermaid", "flowchart TD", *edges, "```"])


def drawn(page: str) -> str:
    """Return the text of the page with new drawings."""
    for name, graph in (("package", package_graph()), ("core", core_graph())):
        begin, end = f"<!-- rooms: {name} -->\n", "<!-- end -->"
        before, _, after = page.partition(begin)
        page = f"{before}{begin}{mermaid(graph)}\n{end}{after.partition(end)[2]}"
    return page


if __name__ == "__main__":
    PAGE.write_text(drawn(PAGE.read_text()))
