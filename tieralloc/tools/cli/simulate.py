"""``tieralloc simulate``."""

from __future__ import annotations

import argparse

from tieralloc._common.progress import bar, waiting
from tieralloc.policies.registry import learned_names
from tieralloc.policy.registry import with_learned
from tieralloc.tools import report
from tieralloc.tools.cli import arguments as types
from tieralloc.tools.cli import common, options
from tieralloc.tools.conclusions import conclude
from tieralloc.tools.simulate import policy_names, simulate

DESCRIPTION = """\
Simulate the store's own policies on a trace, one access at a time, and print their miss ratios at
each capacity. The first half warms the fast tier. With --batch-size also print the device reads
per request: a request reads each page of the slow tier's file once. Simulation shows neither the
CPU time of a policy nor its lag: replay does."""
EXAMPLES = """\
tieralloc simulate day.npz
tieralloc simulate day.npz --policy lru,s3fifo,opt --fast-fraction 1%,5%,20%
tieralloc simulate day.npz --batch-size 32 --row-bytes 256
tieralloc simulate day.npz --fast-bytes 1MiB,16MiB --embedding-dim 32
tieralloc simulate day.npz --json counts.json --plot curve.png"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    learned = [f"{name}:DIR" for name in learned_names()]
    options.add_trace(parser, [*policy_names(), *learned], "lru,s3fifo,opt", options.FRACTIONS)
    text = "samples per request, as in a store (default: one access per request)"
    options.add(parser, "--batch-size", types.count, "N", text)
    options.add_dim(parser)
    text = "bytes per row, which set the rows of a page (default: 4 x --embedding-dim)"
    options.add(parser, "--row-bytes", types.count, "N", text)


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    common.check_outputs(arguments)
    with waiting("loading policies"):
        policies = with_learned(arguments.policy)
    trace = common.read_trace(arguments.trace)
    common.warn_of_seen_accesses(policies, trace, arguments.count_from)
    fractions = options.fast_fractions(arguments, trace, arguments.policy)
    total = len(arguments.policy) * len(fractions) * trace.num_lookups
    with bar("simulating", total, "accesses") as progress:
        records = simulate(
            trace,
            policies,
            fractions,
            arguments.count_from,
            batch_size=arguments.batch_size,
            row_bytes=arguments.row_bytes or 4 * arguments.embedding_dim,
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
