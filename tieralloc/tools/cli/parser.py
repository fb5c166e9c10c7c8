"""The options of the ``tieralloc`` command and its subcommands, and their help."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from tieralloc import __version__
from tieralloc._bindings import eviction_policy_names, fetch_engines
from tieralloc.policies.registry import learned_names
from tieralloc.policy.registry import served_names
from tieralloc.tools.cli import arguments as _arguments
from tieralloc.tools.cli import commands as _commands
from tieralloc.tools.compare import RECMG, caching_names, prefetching_names
from tieralloc.tools.latency import REPEATS
from tieralloc.tools.replay.replay import SECONDS
from tieralloc.tools.simulate import policy_names
from tieralloc.trace import generate

if TYPE_CHECKING:
    # argparse has no public name for what add_subparsers returns.
    _Commands: TypeAlias = argparse._SubParsersAction["_Parser"]

_FRACTIONS = "1%,5%,10%,20%"

BAD_INPUT = 2  # exit status

_DESCRIPTION = """\
Embedding tables in two tiers: a file, and a small pool of DRAM in front of it.

Start with `tieralloc demo`. Exit status: 0 done, 1 failed (disk, memory, a wrong vector),
2 bad input, 130 interrupted."""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"tieralloc: error: {message} (see {self.prog} --help)\n")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command and its subcommands."""
    parser = _Parser(prog="tieralloc", description=_DESCRIPTION, formatter_class=_Formatter)
    parser.add_argument("--version", action="version", version=f"tieralloc {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_demo(commands)
    _add_generate(commands)
    _add_simulate(commands)
    _add_train(commands)
    _add_replay(commands)
    _add_latency(commands)
    _add_report(commands)
    _add_compare(commands)
    _add_doctor(commands)
    return parser


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of descriptions and examples as they are, and aligns the options."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28)


def _add(
    commands: _Commands, name: str, summary: str, text: str, examples: str
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=summary,
        description=text,
        epilog="examples:\n" + "\n".join(f"  {line}" for line in examples.splitlines()),
        formatter_class=_Formatter,
    )


def _add_demo(commands: _Commands) -> None:
    parser = _add(
        commands,
        "demo",
        "see it work: no arguments needed",
        "Generate a trace, train recmg on its first half, simulate the policies on the second and\n"
        "serve it from a real file through a small pool of DRAM, check the vectors, print tables\n"
        "and draw a plot. Takes less than three minutes, and removes its files.",
        "tieralloc demo\ntieralloc demo --dir /mnt/nvme --plot /tmp/demo.png",
    )
    _add_dir(parser)
    parser.add_argument(
        "--plot", metavar="F", help="where to draw the plot (default: tieralloc-demo.png)"
    )
    parser.set_defaults(run=_commands.demo)


def _add_generate(commands: _Commands) -> None:
    parser = _add(
        commands,
        "generate",
        "write a synthetic trace",
        "Write an access trace whose share of accesses by reuse factor is that of Meta's lookups\n"
        "of 2021, with sessions in which rows recur together and popularity that drifts. The same\n"
        "options and seed give the same trace.",
        "tieralloc generate --out day.npz\n"
        "tieralloc generate --out big.npz --num-samples 1000000 --num-tables 26 --seed 7\n"
        "tieralloc generate --out stream.oraclegeneral --drift 0 --session-reuse 0",
    )
    parser.add_argument(
        "--out",
        required=True,
        metavar="T",
        help="the file; its suffix says the format: .npz, .pt and .pt.gz (Meta's), .oraclegeneral"
        " (libCacheSim's)",
    )
    knobs = parser.add_argument_group("knobs")
    defaults = inspect.signature(generate).parameters
    for name, kind, metavar, text in (
        ("num_tables", _arguments.count, "N", "tables"),
        ("num_samples", _arguments.count, "N", "samples, with a bag of each table apiece"),
        ("mean_pooling_factor", _arguments.numbers, "X[,X…]", "lookups of a bag, or one a table"),
        ("num_embeddings", _arguments.counts, "N[,N…]", "rows, all together or one a table"),
        ("session_length", _arguments.number, "X", "mean samples of a session"),
        ("session_reuse", _arguments.number, "P", "probability to recur within the session"),
        ("topic_affinity", _arguments.number, "P", "probability to recur with the same topic"),
        ("drift", _arguments.number, "P", "share of the rows popular for a while only"),
        ("seed", _arguments.whole, "N", "of all that is drawn"),
    ):
        default = defaults[name].default
        text += f" (default: {'twice those looked up' if default is None else default})"
        knobs.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=text)
    parser.set_defaults(run=_commands.generate)


def _add_simulate(commands: _Commands) -> None:
    parser = _add(
        commands,
        "simulate",
        "count a trace's misses, with no bytes behind them",
        "Replay a trace through the store's own policies, one access at a time, and print their\n"
        "miss ratios at each capacity. The first half warms the fast tier.",
        "tieralloc simulate day.npz\n"
        "tieralloc simulate day.npz --policy lru,s3fifo,opt --fast-fraction 1%,5%,20%\n"
        "tieralloc simulate day.npz --json counts.json --plot curve.png",
    )
    learned = [f"{name}:DIR" for name in learned_names()]
    _add_trace(parser, [*policy_names(), *learned], "lru,s3fifo,opt", _FRACTIONS)
    parser.add_argument(
        "--batch-size",
        type=_arguments.count,
        metavar="N",
        help="look up the rows of N samples together, as a call of a store does",
    )
    parser.set_defaults(run=_commands.simulate)


def _add_train(commands: _Commands) -> None:
    parser = _add(
        commands,
        "train",
        "train a learned policy on a trace",
        "Train the models of a learned policy on the first half of a trace, for each capacity,\n"
        "and write them into a directory: simulate takes it as --policy NAME:DIR. The last fifth\n"
        "of that half decides when to stop; the table shows the miss ratios there. Interrupted,\n"
        "it goes on when it is run again. Needs torch. A trained model is a program: run those\n"
        "only whose maker you trust.",
        "tieralloc train day.npz --out recmg-day\n"
        "tieralloc train day.npz --out recmg-day --fast-fraction 1%,5% --until 0.8 --seed 7",
    )
    parser.add_argument("trace", metavar="T", help="the trace: .npz, .pt, .pt.gz or oracleGeneral")
    parser.add_argument("--out", required=True, metavar="DIR", help="the directory to write")
    parser.add_argument(
        "--policy",
        choices=learned_names(),
        default=learned_names()[0],
        help=f"what to train (default: {learned_names()[0]})",
    )
    parser.add_argument(
        "--fast-fraction",
        type=_arguments.fast_fractions,
        default=_FRACTIONS,
        metavar="X[,X…]",
        help="capacities of the fast tier, as fractions of the trace's distinct rows"
        f" (default: {_FRACTIONS.replace('%', '%%')})",
    )
    parser.add_argument(
        "--until",
        type=_arguments.number,
        default=0.5,
        metavar="X",
        help="share of the accesses that is learned from, the first ones (default: 0.5)",
    )
    parser.add_argument(
        "--epochs",
        type=_arguments.count,
        metavar="N",
        help="epochs of training at most (default: as the policy has it)",
    )
    parser.add_argument(
        "--seed",
        type=_arguments.whole,
        default=0,
        metavar="N",
        help="of what is drawn at random (default: 0)",
    )
    parser.set_defaults(run=_commands.train)


def _add_replay(commands: _Commands) -> None:
    parser = _add(
        commands,
        "replay",
        "serve a trace from real tiers and measure it",
        "Serve a trace from a store with real bytes: tables of float32 rows in a file, a pool of\n"
        "DRAM in front of it. The first half warms the fast tier; figures are of the rest.\n"
        "Each thread makes the next call as soon as it has its answer (closed loop), or, with\n"
        "--rate, calls arrive at random times whether or not those before them are answered, and\n"
        "their latencies count from then (open loop): what users see of a stall.",
        "tieralloc replay day.npz --policy lru,s3fifo --fast-fraction 5%\n"
        "tieralloc replay day.npz --threads 4 --batch-size 64 --dir /mnt/nvme --plot replay.png\n"
        "tieralloc replay day.npz --batch-size 8 --rate 500,1000,2000\n"
        "tieralloc replay day.npz --batch-size 8 --rate auto --plot rates.png\n"
        "tieralloc replay day.npz --slow numa:1\n"
        "tieralloc replay day.npz --slow emulated:150ns --policy lru\n"
        "tieralloc replay day.npz --verify --json replay.json",
    )
    served = [f"{name}:DIR" for name in served_names()]
    _add_trace(parser, [*eviction_policy_names(), *served], "lru,s3fifo", "5%")
    parser.add_argument(
        "--embedding-dim",
        type=_arguments.count,
        default=64,
        metavar="N",
        help="elements of a row (default: 64)",
    )
    parser.add_argument(
        "--batch-size",
        type=_arguments.batch_size,
        default=256,
        metavar="N|row",
        help="samples of a call, or 'row': a call for each access, which gives the counts that"
        " simulate gives (default: 256)",
    )
    parser.add_argument(
        "--threads",
        type=_arguments.count,
        default=1,
        metavar="N",
        help="callers at a time (default: 1)",
    )
    parser.add_argument(
        "--rate",
        type=_arguments.rates,
        metavar="R[,R…]|auto",
        help="open loop: calls (not samples) a second that arrive, on a Poisson schedule; 'auto':"
        " from a fifth of what a closed loop reaches until saturated (default: closed loop)",
    )
    parser.add_argument(
        "--seconds",
        type=_arguments.number,
        metavar="X",
        help="how long calls arrive at each rate, at most: no call of the trace arrives twice"
        f" (default: {SECONDS:g})",
    )
    parser.add_argument(
        "--slow",
        default="file",
        metavar="S",
        help="the slow tier: file, numa:1 (memory of that node; numa:1:prefer: preferred), or"
        " emulated:150ns (local memory with so much extra latency a cache line; emulated:150ns/10:"
        " of 10 lines at a time). With memory, 'none' in the table is the store without a fast tier"
        " (default: file)",
    )
    parser.add_argument(
        "--promotion",
        choices=["auto", "always", "never"],
        default="auto",
        help="with a slow tier in memory: which rows read there are copied to the fast tier"
        " (default: auto, the rows that are worth it)",
    )
    parser.add_argument(
        "--engine",
        choices=["auto", *fetch_engines()],
        default="auto",
        help="how the file is read (default: the first that works here)",
    )
    _add_dir(parser)
    parser.add_argument(
        "--verify",
        action="store_true",
        help="check every vector served against its source (closed loop only)",
    )
    parser.set_defaults(run=_commands.replay)


def _add_latency(commands: _Commands) -> None:
    parser = _add(
        commands,
        "latency",
        "measure the memory of each NUMA node from each",
        "Measure, for each pair of a node with processors and one with memory: dependent loads\n"
        "(a chase over huge pages, larger than the caches), streams, rows gathered at random, and\n"
        "the store's own lookup with its slow tier there. Every thread is pinned. Run it on a\n"
        "machine that does nothing else.",
        "tieralloc latency\n"
        "tieralloc latency --from-cpus 0-3 --node 1 --json latency.json\n"
        "tieralloc latency --emulated 150,400 --plot latency.png",
    )
    parser.add_argument(
        "--from-cpus",
        metavar="LIST",
        help="processors to measure from, such as 0-3,8 (default: those of each node)",
    )
    parser.add_argument(
        "--node", metavar="LIST", help="nodes whose memory is measured (default: all)"
    )
    parser.add_argument(
        "--bytes",
        metavar="SIZE",
        help="how much memory of a node (default: 4 times the largest cache, 64MiB to 1GiB)",
    )
    parser.add_argument(
        "--repeats",
        type=_arguments.count,
        default=REPEATS,
        metavar="N",
        help=f"samples of each figure (default: {REPEATS})",
    )
    parser.add_argument(
        "--emulated",
        type=_arguments.nanoseconds,
        metavar="NS[,NS…]",
        help="compare these extra latencies, as an emulated slow tier has them, with a chase",
    )
    parser.add_argument(
        "--json", metavar="F", help="write the records there too; '-': print them instead"
    )
    parser.add_argument("--plot", metavar="F", help="draw heat maps, in the format of F's suffix")
    parser.set_defaults(run=_commands.latency)


def _add_report(commands: _Commands) -> None:
    parser = _add(
        commands,
        "report",
        "make a page of results",
        "Make one HTML page of a result file: its tables and plots, to be read on a desk or a\n"
        "phone. The page has all in it and loads nothing. Takes what simulate and replay write\n"
        "with --json, and what the benchmarks write. Needs matplotlib.",
        "tieralloc report counts.json --out page\n"
        "tieralloc report bench/results/policies.json --out page",
    )
    parser.add_argument("results", metavar="RESULTS.json", help="the result file")
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="where the page, index.html, goes"
    )
    parser.set_defaults(run=_commands.make_report)


def _add_compare(commands: _Commands) -> None:
    parser = _add(
        commands,
        "compare",
        "set prefetchers side by side, over each way of caching",
        "Replay a trace with each prefetcher over each caching policy, one access at a time, and\n"
        "print on-demand fetches, what prefetching covered, how accurate and how late it was, and\n"
        "what it cost. The first half of the trace is learned from: settings of the known\n"
        "prefetchers are chosen on it for each capacity, recmg and transfetch are trained on it\n"
        "unless trained models are given. That takes minutes; the second half is counted.\n"
        "recmg brings a caching of its own, and prefetches over that alone.",
        "tieralloc compare day.npz\n"
        "tieralloc compare day.npz --caching lru --prefetching none,domino,bingo --plot bars.png\n"
        "tieralloc compare day.npz --caching lru,recmg:recmg-day --json compared.json",
    )
    _add_trace_file(parser)
    known = ", ".join(name for name in caching_names() if name != RECMG)
    parser.add_argument(
        "--caching",
        type=_arguments.policies,
        default="lru,s3fifo,recmg",
        metavar="C[,C…]",
        help=f"who leaves the fast tier, of {known}, {RECMG}, {RECMG}:DIR (as tieralloc train"
        " wrote it) (default: lru,s3fifo,recmg)",
    )
    prefetching = ",".join(prefetching_names())
    parser.add_argument(
        "--prefetching",
        type=_arguments.policies,
        default=prefetching,
        metavar="P[,P…]",
        help=f"prefetchers, of {prefetching.replace(',', ', ')} (default: all)",
    )
    _add_fractions(parser, "5%")
    _add_count_from(parser)
    parser.add_argument(
        "--lag",
        type=_arguments.whole,
        default=0,
        metavar="N",
        help="accesses for which a prefetched row is in flight (default: 0)",
    )
    parser.add_argument(
        "--no-tuning",
        action="store_true",
        help="take the known prefetchers with the settings of their papers",
    )
    parser.add_argument(
        "--models",
        metavar="DIR",
        help="where models trained here are kept, and found by the next run (default: nowhere)",
    )
    _add_seed(parser)
    _add_outputs(parser)
    parser.add_argument(
        "--tried",
        metavar="F",
        help="write the settings tried there, and what each came to, as JSON",
    )
    parser.set_defaults(run=_commands.compare)


def _add_doctor(commands: _Commands) -> None:
    parser = _add(
        commands,
        "doctor",
        "say what this machine offers",
        "Look at processor, memory, nodes, huge pages, io_uring, limits and the disk, and say\n"
        "what to do where something is missing. Changes nothing.",
        "tieralloc doctor\ntieralloc doctor /mnt/nvme --json",
    )
    parser.add_argument(
        "directory",
        nargs="?",
        metavar="DIR",
        help="the directory to judge the disk of (default: where replay would put its file)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.set_defaults(run=_commands.doctor)


def _add_trace(
    parser: argparse.ArgumentParser, known: Sequence[str], policies: str, fractions: str
) -> None:
    _add_trace_file(parser)
    parser.add_argument(
        "--policy",
        type=_arguments.policies,
        default=policies,
        metavar="P[,P…]",
        help=f"of {', '.join(known)} (default: {policies})",
    )
    _add_fractions(parser, fractions)
    _add_count_from(parser)
    _add_seed(parser)
    _add_outputs(parser)


def _add_trace_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("trace", metavar="T", help="the trace: .npz, .pt, .pt.gz or oracleGeneral")


def _add_fractions(parser: argparse.ArgumentParser, fractions: str) -> None:
    parser.add_argument(
        "--fast-fraction",
        type=_arguments.fast_fractions,
        default=fractions,
        metavar="X[,X…]",
        help="capacity of the fast tier, as a fraction of the trace's distinct rows, rounded down:"
        f" 0.05 or 5%% (default: {fractions.replace('%', '%%')})",
    )


def _add_count_from(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--count-from",
        type=_arguments.share,
        default=0.5,
        metavar="X",
        help="share of the accesses that warms the fast tier and is not counted (default: 0.5)",
    )


def _add_seed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seed",
        type=_arguments.whole,
        default=0,
        metavar="N",
        help="of what is drawn at random (default: 0)",
    )


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", metavar="F", help="write the records there too; '-': print them instead"
    )
    parser.add_argument("--plot", metavar="F", help="draw a plot, in the format of its suffix")


def _add_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dir",
        metavar="DIR",
        help="where to make the slow tier's file, which is removed at the end (default: TMPDIR, or"
        " the first of /tmp, /var/tmp and here that is a disk)",
    )
