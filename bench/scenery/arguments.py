"""Command-line arguments of all experiments, and their default paths."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.scenery.results import read_json
from tieralloc.tools.disk import default_directory, file_system_of

_ROOT = Path(__file__).parents[2]
#: Next to the checkout: recorded traces are not part of the project.
TRACES = _ROOT.parent / "shared" / "traces"
RESULTS = _ROOT / "bench" / "results"
MODELS = _ROOT / "build" / "policies"

QUICK_NOTE = "A quick run: it shows that everything works, its figures mean nothing."


def make_parser(
    study: str,
    about: str | None,
    *,
    only: Sequence[str] = (),
    models: bool = True,
    disk: bool = False,
    show: bool = True,
    jobs: int | None = None,
) -> argparse.ArgumentParser:
    """Return the parser of ``python -m bench.STUDY``.

    It takes --quick, --traces and --out; --only with names to choose from; --models; --dir with a
    `disk`; --show; --jobs with that default.
    """
    parser = argparse.ArgumentParser(prog=f"python -m bench.{study}", description=about)
    add = parser.add_argument
    add("--quick", action="store_true", help="small and short: a smoke test")
    add("--traces", type=Path, metavar="DIR", help="traces (default: traces next to the checkout)")
    add("--out", type=Path, metavar="DIR", help="directory of the results (bench/results)")
    if only:
        words = f"measure these: {', '.join(only)}"
        add("--only", nargs="+", choices=only, default=list(only), metavar="NAME", help=words)
    if models:
        words = "where policies are trained into, and taken from (build/policies)"
        add("--models", type=Path, default=MODELS, metavar="DIR", help=words)
    if disk:
        words = "where slow tiers go: on a real disk (%(default)s)"
        add("--dir", type=_on_disk, default=str(default_directory()), help=words)
    if show:
        add("--show", action="store_true", help="print the kept result, measure nothing")
    if jobs is not None:
        add("--jobs", type=int, default=jobs, metavar="N", help="processes (%(default)s)")
    return parser


def _on_disk(text: str) -> Path:
    if file_system_of(text).in_memory:
        raise argparse.ArgumentTypeError(f"{text} is memory, not a disk; choose one with --dir")
    return Path(text)


def read_result(options: argparse.Namespace, name: str) -> Any:
    """Return the content of a result file; exit if it is missing."""
    path = (options.out or RESULTS) / f"{name}.json"
    return read_json(path) or sys.exit(f"{path}: no result is kept")


def out_directory(options: argparse.Namespace) -> Path | None:
    """Return the directory of results; None for a quick run without --out."""
    out: Path | None = options.out
    return out if out or options.quick else RESULTS


def public_command(study: str, given: Sequence[str]) -> str:
    """Return the command line without the directories of this machine."""
    public = [Path(each).name if "/" in each else each for each in given]
    return shlex.join(["python", "-m", f"bench.{study}", *public])
