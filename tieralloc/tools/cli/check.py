"""``tieralloc check``."""

from __future__ import annotations

import argparse
import errno

from tieralloc._common.progress import bar
from tieralloc.tools.check import checkpoint_rows, find_damage, open_cold, repair

DESCRIPTION = """\
Read all pages of a table file at the speed of the disk and check their checksums. Lists the rows
of damaged pages. With --repair-from, replaces them by the rows of a checkpoint; updates in the redo
log stay. Exit status: 0 no damage is left, 1 damage."""
EXAMPLES = """\
tieralloc check emb.tier
tieralloc check emb.tier --repair-from model.safetensors"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("file", help="table file of a store that is not open for writing")
    parser.add_argument(
        "--repair-from",
        metavar="CHECKPOINT",
        help="checkpoint with the rows: a tieralloc file, .npz, .safetensors, or torch's .pt",
    )


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    source = None if arguments.repair_from is None else checkpoint_rows(arguments.repair_from)
    damaged = 0
    with open_cold(arguments.file, "r" if source is None else "r+") as store:
        for damage in find_damage(store, bar):
            print(f"{arguments.file}: damaged: {damage}{'' if source is None else ' (repaired)'}")
            if source is None:
                damaged += damage.last - damage.first
            else:
                repair(store, damage, source)
        tables = len(store.tables)
    if damaged:
        raise OSError(
            errno.EIO,
            f"{damaged} rows are damaged; use --repair-from CHECKPOINT to replace them",
            arguments.file,
        )
    print(f"{arguments.file}: {tables} tables, no damage{' left' if source is not None else ''}")
