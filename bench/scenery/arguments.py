"""Command-line arguments that studies share, and the places that they default to."""

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
#: Beside the checkout: recorded traces are no part of the project.
TRACES = _ROOT.parent / "shared" / "traces"
RESULTS = _ROOT / "bench" / "results"
MODELS = _ROOT / "build" / "policies"

QUICK_NOTE = "A quick run: it shows that everything works, its figures mean nothing."


def make_parser(study: str, about: str | None) -> argparse.ArgumentParser:
    """Make the parser of ``python -m bench.STUDY`` with --quick, --traces and --out."""
    parser = argparse.ArgumentParser(prog=f"python -m bench.{study}", description=about)
    parser.add_argument("--quick", action="store_true", help="small and short: a smoke test")
    parser.add_argument(
        "--traces", type=Path, metavar="DIR", help="traces, or one file (../shared/traces)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="directory of the results (bench/results)"
    )
    return parser


def add_only(parser: argparse.ArgumentParser, names: Sequence[str], words: str) -> None:
    """Add --only, which takes some names of all."""
    parser.add_argument(
        "--only",
        nargs="+",
        choices=names,
        default=list(names),
        metavar="NAME",
        help=f"{words}: {', '.join(names)}",
    )


def add_models(parser: argparse.ArgumentParser) -> None:
    """Add --models, the directory of trained policies."""
    parser.add_argument(
        "--models",
        type=Path,
        default=MODELS,
        metavar="DIR",
        help="where policies are trained into, and taken from (build/policies)",
    )


def add_directory(parser: argparse.ArgumentParser) -> None:
    """Add --dir, the directory of slow tiers."""
    parser.add_argument(
        "--dir", type=Path, default=default_directory(), help="where slow tiers go: on a real disk"
    )


def check_directory(parser: argparse.ArgumentParser, directory: Path) -> None:
    """End the command where a directory is in memory."""
    if file_system_of(directory).in_memory:
        parser.error(f"{directory} is memory, not a disk; choose one with --dir")


def add_show(parser: argparse.ArgumentParser) -> None:
    """Add --show, to print a kept result."""
    parser.add_argument("--show", action="store_true", help="print the kept result, measure none")


def kept_result(options: argparse.Namespace, name: str) -> Any:
    """Return the content of a result file; end the command without one."""
    path = (options.out or RESULTS) / f"{name}.json"
    return read_json(path) or sys.exit(f"{path}: no result is kept")


def out_directory(options: argparse.Namespace) -> Path | None:
    """Return where results go; None for a quick run without --out."""
    out: Path | None = options.out
    return out if out or options.quick else RESULTS


def public_command(study: str, given: Sequence[str]) -> str:
    """Return the command without the directories of this machine."""
    public = [Path(each).name if "/" in each else each for each in given]
    return shlex.join(["python", "-m", f"bench.{study}", *public])
