"""The command: `python -m bench.updates` measures and prints tables; `--keep` keeps them as JSON.

tieralloc and RocksDB cache 10 % of the bytes of the rows. The page cache of numpy.memmap and LMDB
is not limited, which favours them.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.scenery import arguments
from bench.scenery.about import about
from bench.scenery.results import rounded, write_json
from bench.scenery.tables import markdown, number
from bench.updates.scenarios import FULL, QUICK, SCENARIOS, Setting
from bench.updates.stores import KINDS


def main(given: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if given is None else list(given)
    parser = arguments.make_parser(
        "updates", __doc__, only=list(SCENARIOS), models=False, disk=True
    )
    parser.add_argument("--keep", action="store_true", help="keep the result in bench/results")
    options = parser.parse_args(given)
    if options.show:
        print(page(arguments.read_result(options, "updates")))
        return 0
    settings = QUICK if options.quick else FULL
    content = {
        **about(arguments.public_command("updates", given), options.dir),
        "settings": asdict(settings),
        "refused": {kind.name: why for kind in KINDS if (why := kind.refusal()) is not None},
    }
    for name in options.only:  # each with new files
        with tempfile.TemporaryDirectory(prefix="tieralloc-updates-", dir=options.dir) as directory:
            setting = Setting(settings, Path(directory))
            content[name] = list(SCENARIOS[name][1](setting))
    content = rounded(content)
    print(page(content))
    if options.quick:
        print(arguments.QUICK_NOTE)
    if options.keep or options.out:
        write_json((options.out or arguments.RESULTS) / "updates.json", content)
    return 0


def page(content: Mapping[str, Any]) -> str:
    """Return a table per scenario, below machine, disk and settings."""
    parts = [f"{content['machine']}; disk: {content['disk']}; commit {content['commit']}"]
    parts.append(", ".join(f"{key}: {value}" for key, value in content["settings"].items()))
    for name, (title, _) in SCENARIOS.items():
        if records := content.get(name):
            head = [key.replace("_", " ") for key in records[0]]
            cells = ([_cell(value) for value in record.values()] for record in records)
            parts.append(f"{title}:\n\n{markdown(head, cells)}")
    parts += [f"left out: {name}: {reason}" for name, reason in content["refused"].items()]
    return "\n\n".join(parts)


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else number(value)


if __name__ == "__main__":
    sys.exit(main())
