"""``tieralloc arrange``."""

from __future__ import annotations

import argparse

from tieralloc._bindings import rows_per_page
from tieralloc._common.progress import bar
from tieralloc.order import Order
from tieralloc.tools.arrange import apply, arrange, partitioners
from tieralloc.tools.arrange.export import write_permutations
from tieralloc.tools.arrange.summary import summarise, summary_text
from tieralloc.tools.cli import arguments as types
from tieralloc.tools.cli import common, options

DESCRIPTION = """\
Learn from the first half of a trace which rows share pages of a table file: rows of a table that
samples look up together. Then one device read brings several rows of a request. Callers keep their
indices; the map from rows to places takes about 2 bytes of DRAM per arranged row, as part of
fast_bytes. Write a new table in the order: create_table(..., order="ORDER"); an existing file:
--apply. With --export-permutation the caller renumbers its rows instead, without a map. Learns
best with the package mtkahypar (pip install tieralloc[arrange])."""
EXAMPLES = """\
tieralloc arrange day.npz --out order.npz
tieralloc arrange day.npz --out order.npz --embedding-dim 32 --dtype float16
tieralloc arrange --order order.npz --apply emb.tier
tieralloc arrange --order order.npz --export-permutation rows.npz"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "trace", nargs="?", metavar="T", help="trace file: .npz, .pt, .pt.gz or oracleGeneral"
    )
    options.add(parser, "--out", str, "ORDER", "write the learned order to this file")
    options.add(parser, "--order", str, "ORDER", "an order learned before, instead of a trace")
    text = "rewrite the tables of this file in the order; needs disk space for both files"
    options.add(parser, "--apply", str, "FILE", text)
    text = "write the new number of each row of each table, for a caller that renumbers its rows"
    options.add(parser, "--export-permutation", str, "F.npz", text)
    text = "share of the lookups to learn from; the last fifth of it is for the summary first"
    options.add(parser, "--until", types.number, "X", text, 0.5)
    options.add(parser, "--embedding-dim", types.count, "N", "elements per row", 64)
    options.add(parser, "--dtype", str, "TYPE", "type of the elements", "float32")
    text = "rows of a page of the file (default: those of the dim and type)"
    options.add(parser, "--rows-per-page", types.count, "N", text)
    options.add(parser, "--batch-size", types.count, "N", "samples of a request", 32)
    methods = list(partitioners())
    parser.add_argument(
        "--method",
        choices=["mtkahypar", "greedy"],
        help=f"how to learn; greedy needs no package (default: {methods[0]})",
    )
    options.add_seed(parser)
    options.add_force(parser)


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    _check(arguments)
    for path in (arguments.out, arguments.export_permutation):
        if path is not None:
            common.check_new(path, arguments.force)
    order = Order.read(arguments.order) if arguments.trace is None else _learn(arguments)
    if arguments.export_permutation is not None:
        write_permutations(order, arguments.export_permutation)
        common.say_written(arguments.export_permutation)
    if arguments.apply is not None:
        tables = apply(arguments.apply, order, bar)
        print(f"{arguments.apply}: arranged {', '.join(tables) or 'no table'}")
    elif arguments.trace is not None:
        print(f"\nApply it: tieralloc arrange --order {arguments.out} --apply FILE.tier")


def _check(arguments: argparse.Namespace) -> None:
    if (arguments.trace is None) == (arguments.order is None):
        raise ValueError("T, --order: expected a trace to learn from, or an order")
    if arguments.trace is not None and arguments.out is None:
        raise ValueError("--out: expected the file of the order")
    if arguments.trace is None and arguments.out is not None:
        raise ValueError("--out: no effect with --order; expected a trace")
    if arguments.trace is None and (arguments.apply or arguments.export_permutation) is None:
        raise ValueError("--order: expected --apply or --export-permutation with it")


def _learn(arguments: argparse.Namespace) -> Order:
    """Learn an order, write it, and print what it gains."""
    rows = arguments.rows_per_page or rows_per_page(arguments.embedding_dim, arguments.dtype)
    trace = common.read_trace(arguments.trace)
    settings = {"method": arguments.method, "seed": arguments.seed, "progress": bar}
    summary = summarise(trace, rows, arguments.until, arguments.batch_size, **settings)
    order = arrange(trace, rows, arguments.until, **settings)
    order.write(arguments.out)
    print(summary_text(trace, order, summary))
    common.say_written(arguments.out)
    return order
