"""``tieralloc compare``."""

from __future__ import annotations

import argparse

from tieralloc._common.files import check_writable
from tieralloc.tools import report
from tieralloc.tools.cli import arguments as types
from tieralloc.tools.cli import common, options
from tieralloc.tools.compare import RECMG, caching_names, prefetching_names

DESCRIPTION = """\
Replay a trace with each prefetcher over each caching policy, one access at a time, and print
on-demand fetches, coverage, accuracy, lateness and cost. The first half of the trace is learned
from: settings of the baselines are chosen on it for each capacity, and recmg and transfetch are
trained on it unless trained models are given, which takes minutes. The second half is counted.
recmg prefetches over its own caching policy only."""
EXAMPLES = """\
tieralloc compare day.npz
tieralloc compare day.npz --caching lru --prefetching none,domino,bingo --plot bars.png
tieralloc compare day.npz --caching lru,recmg:recmg-day --json compared.json"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    options.add_trace_file(parser)
    known = ", ".join(name for name in caching_names() if name != RECMG)
    parser.add_argument(
        "--caching",
        type=types.policies,
        default="lru,s3fifo,recmg",
        metavar="C[,C…]",
        help=f"caching policies, of {known}, {RECMG}, {RECMG}:DIR (as tieralloc train wrote it)"
        " (default: lru,s3fifo,recmg)",
    )
    prefetching = ",".join(prefetching_names())
    parser.add_argument(
        "--prefetching",
        type=types.policies,
        default=prefetching,
        metavar="P[,P…]",
        help=f"prefetchers, of {prefetching.replace(',', ', ')} (default: all)",
    )
    options.add_fractions(parser, "5%")
    parser.add_argument(
        "--count-from",
        type=types.share,
        default=0.5,
        metavar="X",
        help="share of the accesses that is learned from and not counted (default: 0.5)",
    )
    parser.add_argument(
        "--lag",
        type=types.whole,
        default=0,
        metavar="N",
        help="accesses for which a prefetched row is in flight (default: 0)",
    )
    parser.add_argument(
        "--no-tuning",
        action="store_true",
        help="take the baselines with the settings of their papers",
    )
    parser.add_argument(
        "--models",
        metavar="DIR",
        help="directory that keeps models trained here for the next run (default: none)",
    )
    options.add_seed(parser)
    options.add_outputs(parser)
    parser.add_argument("--tried", metavar="F", help="write the settings tried there, as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    from tieralloc.tools.comparing import run as run_comparison
    from tieralloc.tools.plots.comparison import plot_comparison

    common.check_outputs(arguments)
    if arguments.tried is not None:
        check_writable(arguments.tried)
    trace = common.read_trace(arguments.trace)
    comparison, policies = run_comparison(trace, arguments)
    common.warn_of_seen_accesses(policies, trace, arguments.count_from)
    first = comparison.records[0]
    parts = [
        report.counted_heading(trace, first),
        report.comparison_table(comparison.records),
        report.comparison_conditions(first),
    ]
    if arguments.tried is not None:
        report.write_json(comparison.tried, arguments.tried)
        common.say_written(arguments.tried)
    common.write_outputs(comparison.records, "\n\n".join(parts), arguments, plot_comparison)
