"""``tieralloc import``."""  # noqa: N999

from __future__ import annotations

import argparse

from tieralloc._common.progress import bar
from tieralloc.checkpoint.checkpoint import Checkpoint, JoinedRows
from tieralloc.tools.cli import common, options
from tieralloc.tools.import_rows import import_rows, is_interrupted

DESCRIPTION = """\
Write tables of safetensors and .npy files to a table file, some MiB at a time. A store serves such
tables in place, too (ta.Checkpoint): a file pays if rows have parts in several tensors, which take
a device read each, or are updated. After an interruption the same command goes on."""
EXAMPLES = """\
tieralloc import 'model/*.safetensors' --out model.tier
tieralloc import model-*.safetensors --out ngram.tier --table ngram=ngram.0+ngram.1
tieralloc import model.safetensors --out ngram.tier --interleave ngram=weight,scale"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="files, or quoted patterns")
    parser.add_argument("--out", required=True, metavar="FILE", help="the table file")
    text = "a table of these tensors, in row order (default: each tensor of two dimensions)"
    parser.add_argument("--table", action="append", default=[], metavar="NAME=T+T", help=text)
    text = "a table whose rows have their parts side by side, such as weights and scales"
    parser.add_argument("--interleave", action="append", default=[], metavar="NAME=T,T", help=text)
    text = "of interleaved rows"
    options.add(parser, "--dtype", str, "DTYPE", text, default="bytes")
    options.add(parser, "--embedding-dim", int, "D", "of interleaved rows, unless they are bytes")
    options.add_force(parser)


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    tables: dict[str, list[str] | JoinedRows] = {}
    for text in arguments.table:
        name, tensors = _named("--table", text)
        tables[name] = tensors.split("+")
    for text in arguments.interleave:
        name, tensors = _named("--interleave", text)
        parts = [part.split("+") for part in tensors.split(",")]
        tables[name] = JoinedRows(
            parts, dtype=arguments.dtype, embedding_dim=arguments.embedding_dim
        )
    if not arguments.interleave and (arguments.dtype, arguments.embedding_dim) != ("bytes", None):
        raise ValueError("--dtype, --embedding-dim: no effect without --interleave")
    if not is_interrupted(arguments.out):
        common.check_new(arguments.out, arguments.force)
    slow = Checkpoint(arguments.files, tables=tables or None)
    for line in import_rows(slow, arguments.out, progress=bar):
        print(f"{arguments.out}: {line}")


def _named(option: str, text: str) -> tuple[str, str]:
    name, equals, tensors = text.partition("=")
    if not (name and equals and tensors):
        raise ValueError(f"{option}: expected NAME=TENSOR, got {text!r}")
    return name, tensors
