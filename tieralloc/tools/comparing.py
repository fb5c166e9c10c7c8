"""`tieralloc compare`: pairs, policies read or trained, and baselines from its arguments."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from tieralloc._common.progress import bar, narrated, waiting
from tieralloc.policies.baselines.registry import make_baselines
from tieralloc.policies.registry import trainer
from tieralloc.policy.directory import TrainingTrace, fingerprint, read_policy
from tieralloc.tools.compare import NONE, RECMG, Cell, Comparison, cells_of, compare
from tieralloc.trace.stream import first_counted

if TYPE_CHECKING:
    from tieralloc.policies.recmg.policy import RecmgPolicy
    from tieralloc.trace import Trace

_ALONE = f"{RECMG}-caching"


def run(trace: Trace, arguments: argparse.Namespace) -> tuple[Comparison, list[RecmgPolicy]]:
    """Do what the command was asked for; return what was counted, and the policies that learned.

    Raises
    ------
    ValueError
        For names that are unknown or contradict each other, and as `compare` does.
    OSError
        Where models cannot be read or kept.
    ImportError
        Where torch is missing for what needs it.
    """
    caching, directory = named(arguments.caching, arguments.prefetching)
    prefetching = [name.partition(":")[0] for name in arguments.prefetching]
    cells = cells_of(caching, prefetching)
    names = dict.fromkeys(cell.prefetching for cell in cells)
    with ExitStack() as stack:
        models = arguments.models
        if models is None:
            models = stack.enter_context(tempfile.TemporaryDirectory(prefix="tieralloc-models-"))
        baselines = make_baselines(
            [name for name in names if name not in (NONE, RECMG)],
            checkpoints=Path(models) / "transfetch",
            progress=narrated,
        )
        learned: dict[str, RecmgPolicy] = {}
        if RECMG in caching:
            if directory is None:
                directory = _trained(trace, Path(models) / RECMG, arguments)
            learned = _loaded(directory, cells)
        total = len(cells) * len(arguments.fast_fraction) * trace.num_lookups
        with bar("comparing", total, "accesses") as done:
            found = compare(
                trace,
                cells,
                arguments.fast_fraction,
                arguments.count_from,
                baselines=baselines,
                learned=learned,
                tuned=not arguments.no_tuning,
                lag=arguments.lag,
                seed=arguments.seed,
                progress=done,
                waiting=waiting,
            )
        return found, list(learned.values())


def named(caching: Sequence[str], prefetching: Sequence[str]) -> tuple[list[str], str | None]:
    """Return names of caching without directories, and the directory of recmg if one was given.

    ``recmg-caching:DIR`` stands for ``recmg:DIR``: which of both a pair is, prefetching says.

    Raises
    ------
    ValueError
        For a directory given to what has none, or two directories of recmg.
    """
    directories = {}
    names = []
    for text in [*caching, *prefetching]:
        name, colon, directory = text.partition(":")
        name = RECMG if name == _ALONE else name
        if text in caching and name not in names:
            names.append(name)
        if not colon:
            continue
        if name != RECMG:
            raise ValueError(f"{text!r} names a directory, which only {RECMG} has")
        if not directory:
            raise ValueError(f"{text!r} names no directory, expected {RECMG}:DIR or {RECMG}")
        directories[directory] = text
    if len(directories) > 1:
        raise ValueError(f"{' and '.join(directories.values())}: expected one directory of {RECMG}")
    return names, next(iter(directories), None)


def _trained(trace: Trace, directory: Path, arguments: argparse.Namespace) -> str:
    """Train recmg as `tieralloc train` does, unless that was done there for this trace."""
    if (directory / "manifest.json").exists():
        manifest = read_policy(directory).manifest
        accesses = trace.accesses()
        wanted = TrainingTrace(
            manifest.trace.name,
            fingerprint(accesses),
            first_counted(len(accesses), arguments.count_from),
        )
        if (manifest.policy, manifest.trace, manifest.seed) == (RECMG, wanted, arguments.seed):
            return str(directory)
    with waiting("loading torch"):
        train_policy = trainer(RECMG)
    train_policy(
        trace,
        directory,
        arguments.fast_fraction,
        until=arguments.count_from,
        seed=arguments.seed,
        progress=narrated,
    )
    return str(directory)


def _loaded(directory: str, cells: Sequence[Cell]) -> dict[str, RecmgPolicy]:
    from tieralloc.policies.recmg.policy import RecmgCachingPolicy, RecmgPolicy

    kinds = {RECMG: RecmgPolicy, _ALONE: RecmgCachingPolicy}
    names = [cell.policy for cell in cells if cell.caching == RECMG]
    with waiting("loading policies"):
        return {name: kinds[name].load(directory, name) for name in names}
