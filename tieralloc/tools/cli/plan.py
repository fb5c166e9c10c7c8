"""``tieralloc plan``."""

from __future__ import annotations

import argparse
from pathlib import Path

from tieralloc._common.progress import bar, waiting
from tieralloc.policy.registry import served_names, with_learned
from tieralloc.tools import report
from tieralloc.tools.cli import arguments as types
from tieralloc.tools.cli import common, options
from tieralloc.tools.plan.plan import FRACTIONS, MAX_ERROR, SECONDS, plan, planned_names
from tieralloc.tools.plan.report import to_text
from tieralloc.tools.plan.targets import Target

DESCRIPTION = """\
Recommend a budget of DRAM and a policy for a trace, a device and targets. Simulates each policy at
several budgets, on a sample of the accesses that is large enough for the stated error; measures
calls on the device for some seconds; predicts device reads, p50 and p99 of a call; and prints the
cheapest budget that meets all targets, or the bound that excludes all. The first half of the trace
warms the fast tier. One caller serves the calls; replay measures what plan predicts."""
EXAMPLES = """\
tieralloc plan day.npz --embedding-dim 64 --target p99=2ms
tieralloc plan day.npz --batch-size 32 --rate 500 --target p99=5ms,dram=64MiB --plot plan.png
tieralloc plan day.npz --policy lru,recmg-caching:policy --target miss-ratio=.1 --dtype int8
tieralloc plan day.npz --dir /mnt/nvme --json plan.json
tieralloc plan day.npz --file /mnt/nvme/emb.tier --target p50=500us"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    options.add_trace_file(parser)
    learned = [f"{name}:DIR" for name in served_names()]
    text = f"policies: {', '.join([*planned_names(), *learned])}"
    options.add(parser, "--policy", types.policies, "P[,P…]", text, "lru,s3fifo")
    parser.add_argument(
        "--target",
        type=targets,
        action="extend",
        default=[],
        metavar="KIND=LIMIT[,…]",
        help="p99=2ms, p50=500us, miss-ratio=.1 or dram=8GiB; several are met together",
    )
    text = "planned capacities: rows ÷ distinct rows of the trace (default: from "
    text += f"{FRACTIONS[0]:g} to {FRACTIONS[-1]:g})"
    options.add(parser, "--fast-fraction", types.fast_fractions, "X[,X…]", text)
    options.add_dim(parser)
    options.add_dtype(parser)
    options.add(parser, "--batch-size", types.count, "N", "samples per call", 256)
    text = "calls (not samples) per second, on a Poisson schedule (default: closed loop)"
    options.add(parser, "--rate", types.number, "R", text)
    text = "share of the accesses that warms the fast tier, not counted"
    options.add(parser, "--count-from", types.share, "X", text, 0.5)
    text = "max error of miss ratios by sampling, two standard errors"
    options.add(parser, "--error", types.number, "X", text, MAX_ERROR)
    text = "time to measure calls on the device"
    options.add(parser, "--seconds", types.number, "X", text, SECONDS)
    text = "measure this table file of the trace's tables; it is only read"
    options.add(parser, "--file", str, "FILE", text)
    options.add_directory(parser)
    options.add_seed(parser)
    options.add_outputs(parser)


def targets(text: str) -> list[Target]:
    """Return targets, separated by commas."""
    try:
        return [Target.parse(part) for part in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("target: ")) from None


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    common.check_outputs(arguments)
    if arguments.file is not None and arguments.dir is not None:
        raise ValueError("--dir: no effect with --file; expected one of them")
    directory = None if arguments.file is not None else common.working_directory(arguments.dir)
    with waiting("loading policies"):
        policies = with_learned(arguments.policy)
    trace = common.read_trace(arguments.trace)
    common.warn_of_seen_accesses(policies, trace, arguments.count_from)
    made = plan(
        trace,
        policies,
        arguments.target,
        fast_fractions=arguments.fast_fraction,
        embedding_dim=arguments.embedding_dim,
        dtype=arguments.dtype,
        batch_size=arguments.batch_size,
        rate=arguments.rate,
        count_from=arguments.count_from,
        max_error=arguments.error,
        seconds=arguments.seconds,
        directory=directory,
        file=None if arguments.file is None else Path(arguments.file),
        seed=arguments.seed,
        progress=bar,
    )

    def draw(_: report.Record, path: str) -> None:
        from tieralloc.tools.plots.plan import plot_plan

        plot_plan(made, path)

    common.write_outputs(made.to_dict(), to_text(made, trace), arguments, draw)
