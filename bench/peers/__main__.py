"""The command: `python -m bench.peers` measures, prints tables and writes JSON."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench.peers.adapter import BaselineFailedError
from bench.peers.experiment import Experiment
from bench.peers.results import Result, markdown, save
from bench.peers.scenarios import SCENARIOS
from bench.peers.settings import FULL, QUICK
from bench.scenery import arguments
from bench.scenery.about import about
from bench.scenery.processes import ChildFailedError


def main(given: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if given is None else list(given)
    parser = arguments.make_parser(
        "peers", __doc__, only=list(SCENARIOS), models=False, disk=True, show=False
    )
    options = parser.parse_args(given)
    with tempfile.TemporaryDirectory(prefix="tieralloc-peers-", dir=options.dir) as directory:
        _run(options, arguments.public_command("peers", given), Path(directory))
    return 0


def _run(options: argparse.Namespace, command: str, directory: Path) -> None:
    """Measure all scenarios; write each result as soon as it is measured."""
    settings = QUICK if options.quick else FULL
    out = arguments.out_directory(options)
    experiment = Experiment(settings, directory, options.traces or arguments.TRACES)
    head = {
        **about(command, directory),
        "settings": asdict(settings),
        "refused": experiment.refused,
    }
    print(head["machine"], f"disk: {head['disk']}", sep="\n")
    if options.quick:
        print(arguments.QUICK_NOTE)
    reached: list[bool | None] = []
    for name in options.only:
        scenario = SCENARIOS[name]
        began = time.monotonic()
        try:
            results = list(scenario.run(experiment))
        except (BaselineFailedError, ChildFailedError) as error:
            results = [Result("failed", note=str(error))]
        seconds = time.monotonic() - began
        print(f"\n{scenario.number}. {scenario.title} ({seconds:.0f} s)\n\n{markdown(results)}")
        sys.stdout.flush()
        reached += [result.is_reached for result in results]
        if out is not None:
            save(out / "peers.json", scenario.number, scenario.title, results, head)
    for name, reason in experiment.refused.items():
        print(f"left out: {name}: {reason}")
    print(f"\nreached: {reached.count(True)} of {reached.count(True) + reached.count(False)}")


if __name__ == "__main__":
    sys.exit(main())
