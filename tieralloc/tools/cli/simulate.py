"""``tieralloc simulate``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from tieralloc._bindings import rows_per_page
from tieralloc._common.progress import bar, waiting
from tieralloc.order import Order, pages_of_rows
from tieralloc.policies.registry import learned_names
from tieralloc.policy.registry import with_learned
from tieralloc.tools import report
from tieralloc.tools.cli import arguments as types
from tieralloc.tools.cli import common, options
from tieralloc.tools.conclusions import conclude
from tieralloc.tools.simulate import policy_names, simulate
from tieralloc.trace import Trace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DESCRIPTION = """\
Simulate the store's own policies on a trace, one access at a time, and print their miss ratios at
each capacity. The first half warms the fast tier. With --batch-size also print the device reads
per request: a request reads each page of the slow tier's file once. Simulation shows neither the
CPU time of a policy nor its lag: replay does."""
EXAMPLES = """\
tieralloc simulate day.npz
tieralloc simulate day.npz --policy lru,s3fifo,opt --fast-fraction 1%,5%,20%
tieralloc simulate day.npz --batch-size 32 --embedding-dim 64
tieralloc simulate day.npz --fast-bytes 1MiB,16MiB --embedding-dim 32
tieralloc simulate day.npz --json counts.json --plot curve.png"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    learned = [f"{name}:DIR" for name in learned_names()]
    options.add_trace(parser, [*policy_names(), *learned], "lru,s3fifo,opt", options.FRACTIONS)
    text = "samples per request, as in a store (default: one access per request)"
    options.add(parser, "--batch-size", types.count, "N", text)
    options.add_dim(parser)
    options.add_dtype(parser)
    options.add_order(parser)


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    common.check_outputs(arguments)
    with waiting("loading policies"):
        policies = with_learned(arguments.policy)
    trace = common.read_trace(arguments.trace)
    common.warn_of_seen_accesses(policies, trace, arguments.count_from)
    order = None if arguments.order is None else Order.read(arguments.order)
    fractions = options.fast_fractions(arguments, trace, arguments.policy, order)
    total = len(arguments.policy) * len(fractions) * trace.num_lookups
    with bar("simulating", total, "accesses") as progress:
        records = simulate(
            trace,
            policies,
            fractions,
            arguments.count_from,
            batch_size=arguments.batch_size,
            embedding_dim=arguments.embedding_dim,
            dtype=arguments.dtype,
            pages=_pages(arguments, trace, order),
            progress=progress,
            seed=arguments.seed,
        )
    parts = [
        report.wrap(conclude(records)),
        report.counted_heading(trace, records[0]),
        report.miss_ratio_table(records),
    ]
    if arguments.batch_size is not None:
        parts.append(report.device_reads_table(records))
    common.write_outputs(records, "\n\n".join(parts), arguments)


def _pages(
    arguments: argparse.Namespace, trace: Trace, order: Order | None
) -> NDArray[np.uint32] | None:
    if order is None:
        return None
    return pages_of_rows(trace, rows_per_page(arguments.embedding_dim, arguments.dtype), order)
