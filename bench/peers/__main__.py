"""The command: `python -m bench.peers` measures, prints the table and writes JSON."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench import machine
from bench.peers import bounds
from bench.peers.bench import Bench
from bench.peers.findings import Finding, Line, table, write_json
from bench.peers.kinds import PEERS
from bench.peers.lines import LINES
from bench.peers.loads import TRACES
from bench.peers.peer import PeerFailedError
from bench.peers.settings import FULL, QUICK, Settings
from tieralloc.tools.disk import default_directory, file_system_of

RESULTS = Path(__file__).parents[1] / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    parent = options.dir or default_directory()
    if file_system_of(parent).in_memory:
        print(f"{parent} is memory, not a disk; choose one with --dir", file=sys.stderr)
        return 2
    path = options.json
    if path is None and not options.quick:
        path = RESULTS / f"peers-{machine.slug()}.json"
    with tempfile.TemporaryDirectory(prefix="tieralloc-peers-", dir=parent) as directory:
        settings = QUICK if options.quick else FULL
        _run(options, settings, Path(directory), path)
    if path is not None:
        print(f"\nwritten: {path}")
    return 0


def _run(
    options: argparse.Namespace, settings: Settings, directory: Path, path: Path | None
) -> None:
    """Measure line after line; what there is so far is written after each."""
    # What is named is measured beside tieralloc.
    chosen = tuple(dict.fromkeys(("tieralloc", *options.peers)))
    bench = Bench(settings, directory, chosen, options.traces)
    about = {
        "machine": machine.describe(directory),
        "quick": options.quick,
        "settings": asdict(settings),
        "refused": bench.refused,
    }
    print(about["machine"]["machine"], f"disk: {about['machine']['disk']}", sep="\n")
    if options.quick:
        print("A quick run: it shows that everything works, its figures mean nothing.")
    lines = []
    for name, module in (*LINES.items(), ("bounds", bounds)):
        if name not in options.only:
            continue
        began = time.monotonic()
        try:
            findings = module.run(bench)
        except PeerFailedError as error:
            findings = [Finding("failed", note=str(error))]
        lines.append(Line(module.NUMBER, module.TITLE, findings))
        print(table(lines[-1:]), f"   ({time.monotonic() - began:.0f} s)", sep="\n", flush=True)
        if path is not None:
            write_json(path, lines, about)
    for name, reason in bench.refused.items():
        print(f"left out: {name}: {reason}")
    judged = [finding.reached for line in lines for finding in line.findings]
    print(f"\nreached: {judged.count(True)} of {judged.count(True) + judged.count(False)}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    names = (*LINES, "bounds")
    parser.add_argument("--quick", action="store_true", help="small and short: a smoke test")
    parser.add_argument("--json", type=Path, metavar="F", help="where the result goes")
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="LINE", help=", ".join(names)
    )
    parser.add_argument(
        "--peers",
        nargs="+",
        choices=PEERS,
        default=list(PEERS),
        metavar="PEER",
        help=", ".join(PEERS),
    )
    parser.add_argument("--dir", type=Path, help="where the files go for the while: a real disk")
    parser.add_argument(
        "--traces", type=Path, default=TRACES, help="where the real traces are (%(default)s)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
