"""The rooms of the C++ core include each other in one direction."""

import re
from pathlib import Path

CORE = Path(__file__).parents[1] / "tieralloc" / "_core"
#: A room may include itself and the rooms of earlier lines.
LAYERS = [
    ["base"],
    ["epoch", "index"],
    ["kernels", "eviction"],
    ["slow_tier"],
    ["fast_tier", "sim"],
    ["policy"],
    ["store"],
]


def test_core_rooms_include_lower_rooms_only():
    layer_of = {room: layer for layer, rooms in enumerate(LAYERS) for room in rooms}
    files = [path for path in CORE.rglob("*") if path.suffix in (".hpp", ".cpp", ".inc")]
    upward = []
    for path in files:
        room = path.relative_to(CORE).parts[0]
        for included in re.findall(r'^#include "(\w+)/', path.read_text(), re.MULTILINE):
            if included != room and layer_of[included] >= layer_of[room]:
                upward.append(f"{path.relative_to(CORE)} includes {included}/")
    assert layer_of.keys() == {path.relative_to(CORE).parts[0] for path in files}
    assert not upward
