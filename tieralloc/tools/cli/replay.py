"""``tieralloc replay``."""

from __future__ import annotations

import argparse

from tieralloc._bindings import eviction_policy_names, fetch_engines
from tieralloc._common.progress import bar
from tieralloc.order import Order
from tieralloc.policy.registry import served_names
from tieralloc.tools import report
from tieralloc.tools.cli import arguments as types
from tieralloc.tools.cli import common, options
from tieralloc.tools.conclusions import conclude, learned_gains
from tieralloc.tools.emulated import parse_slow
from tieralloc.tools.replay.replay import SECONDS, replay

REPEATS = 3

DESCRIPTION = """\
Serve a trace from a store with real bytes: tables in a file, a pool of DRAM in
front of it. The first half warms the fast tier; the rest is measured. In a closed loop (the
default) each thread starts its next call when the previous one is answered; policies and baselines
take turns on segments of the trace, and the table shows median and quartiles of the turns. The
baselines numpy.memmap and Python LRU have as much DRAM as the store takes in all, and stop after
half a second of each turn. A percentile is shown if at least 10 calls exceed it. With --rate the
loop is open: calls arrive at random times, and latencies count from the arrival, so that a stall
shows in all calls that wait for it."""
EXAMPLES = """\
tieralloc replay day.npz --policy lru,s3fifo --fast-fraction 5%
tieralloc replay day.npz --fast-bytes 4MiB --embedding-dim 32 --no-baselines
tieralloc replay day.npz --threads 4 --batch-size 64 --dir /mnt/nvme --plot replay.png
tieralloc replay day.npz --batch-size 8 --rate 500,1000,2000
tieralloc replay day.npz --batch-size 8 --rate auto --plot rates.png
tieralloc replay day.npz --order order.npz --fast-bytes 4MiB
tieralloc replay day.npz --slow numa:1
tieralloc replay day.npz --slow emulated:150ns --policy lru
tieralloc replay day.npz --verify --json replay.json"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    served = [f"{name}:DIR" for name in served_names()]
    options.add_trace(parser, [*eviction_policy_names(), *served], "lru,s3fifo", "5%")
    _add_load(parser)
    _add_slow_tier(parser)
    parser.add_argument(
        "--no-baselines",
        action="store_true",
        help="measure the policies only, without all rows in DRAM, numpy.memmap and a Python LRU"
        " (measured in a closed loop from a file)",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="compare every served vector with its source (closed loop only)",
    )


def _add_load(parser: argparse.ArgumentParser) -> None:
    options.add_dim(parser)
    options.add_dtype(parser)
    text = "samples per call, or 'row': one access per call, with the counts of simulate"
    options.add(parser, "--batch-size", types.batch_size, "N|row", text, 256)
    options.add(parser, "--threads", types.count, "N", "concurrent callers", 1)
    text = (
        "open loop: calls (not samples) per second, on a Poisson schedule; 'auto': from 0.2 times"
        " the closed loop's rate until saturated (default: closed loop)"
    )
    options.add(parser, "--rate", types.rates, "R[,R…]|auto", text)
    text = (
        "maximum time at each rate; each call of the trace arrives once at most"
        f" (default: {SECONDS:g})"
    )
    options.add(parser, "--seconds", types.number, "X", text)
    text = f"runs at each rate: median and quartiles (default: {REPEATS})"
    options.add(parser, "--repeats", types.count, "N", text)


def _add_slow_tier(parser: argparse.ArgumentParser) -> None:
    text = (
        "the slow tier: file, numa:1 (memory of that node; numa:1:prefer: preferred), or"
        " emulated:150ns (local memory with an extra latency per cache line; emulated:150ns/10:"
        " 10 lines at a time). With memory, the line 'none' is the store without a fast tier"
    )
    options.add(parser, "--slow", str, "S", text, "file")
    parser.add_argument(
        "--promotion",
        choices=["auto", "always", "never"],
        default="auto",
        help="with a slow tier in memory: promotion of rows to the fast tier (default: auto, if the"
        " copy saves time)",
    )
    parser.add_argument(
        "--engine",
        choices=["auto", *fetch_engines()],
        default="auto",
        help="fetch engine of the file (default: auto, the first that works on this machine)",
    )
    options.add_order(parser)
    options.add_directory(parser)


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    if arguments.seconds is not None and arguments.rate is None:
        raise ValueError("--seconds: no effect in a closed loop; expected --rate")
    if arguments.repeats is not None and arguments.rate is None:
        raise ValueError("--repeats: no effect in a closed loop; expected --rate")
    in_file = arguments.slow == "file"
    slow = None if in_file else parse_slow(arguments.slow, arguments.promotion)
    if in_file and arguments.promotion != "auto":
        raise ValueError("--promotion: no effect with --slow file; expected numa:N or emulated:Nns")
    if not in_file and arguments.engine != "auto":
        raise ValueError("--engine: no effect with a slow tier in memory; expected --slow file")
    if not in_file and arguments.order is not None:
        raise ValueError("--order: no effect with a slow tier in memory; expected --slow file")
    common.check_outputs(arguments)
    order = None if arguments.order is None else Order.read(arguments.order)
    directory = common.working_directory(arguments.dir) if slow is None else None
    trace = common.read_trace(arguments.trace)
    records = replay(
        trace,
        arguments.policy,
        options.fast_fractions(arguments, trace, arguments.policy, order),
        embedding_dim=arguments.embedding_dim,
        dtype=arguments.dtype,
        batch_size=arguments.batch_size,
        count_from=arguments.count_from,
        threads=arguments.threads,
        rates=arguments.rate,
        seconds=SECONDS if arguments.seconds is None else arguments.seconds,
        repeats=arguments.repeats or REPEATS,
        engine=arguments.engine,
        slow=slow,
        directory=directory,
        baselines=in_file and arguments.rate is None and not arguments.no_baselines,
        verify=arguments.verify,
        order=order,
        seed=arguments.seed,
        progress=bar,
    )
    if arguments.rate is None:
        heading, table = report.counted_heading, report.replay_table
    else:
        heading, table = report.open_loop_heading, report.open_loop_table
    last = records[-1]  # with "auto" the first record is of the closed loop
    conclusions = [conclude(records), *(learned_gains(records) if arguments.rate is None else [])]
    parts = ["\n".join(map(report.wrap, conclusions)), heading(trace, last)]
    parts += [report.replay_conditions(last), table(records)]
    if arguments.verify:
        calls = sum(record["verified"] for record in records)
        parts.append(f"Compared every vector of {calls:,} calls with its source: all equal.")
    common.write_outputs(records, "\n\n".join(parts), arguments)
