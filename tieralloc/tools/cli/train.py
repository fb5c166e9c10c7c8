"""``tieralloc train``."""

from __future__ import annotations

import argparse
from pathlib import Path

from tieralloc._common.progress import bar, waiting
from tieralloc.policies.registry import learned_names, trainer
from tieralloc.policy.directory import Manifest
from tieralloc.tools import report
from tieralloc.tools.cli import arguments as types
from tieralloc.tools.cli import common, options
from tieralloc.tools.conclusions import learned_gains
from tieralloc.tools.trial import serve_next
from tieralloc.trace import Trace

DESCRIPTION = """\
Train the models of a learned policy on the first half of a trace, for each capacity, and write
them into a directory for simulate and replay: --policy NAME:DIR. The last fifth of that half is
for validation. At the end, serve the next tenth of the trace from a real file with the policy and
with simple ones, and print what it gains or loses, its cost included. An interrupted training
continues when you run the command again. Needs torch. A trained model can run code: use only
models that you trust."""
EXAMPLES = """\
tieralloc train day.npz --out recmg-day
tieralloc train day.npz --out recmg-day --fast-bytes 16MiB --embedding-dim 32 --force
tieralloc train day.npz --out recmg-day --fast-fraction 1%,5% --until 0.8 --seed 7 --no-serve"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    options.add_trace_file(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="output directory")
    parser.add_argument(
        "--policy",
        choices=learned_names(),
        default=learned_names()[0],
        help=f"the policy to train (default: {learned_names()[0]})",
    )
    options.add_fractions(parser, options.FRACTIONS)
    text = "share of the accesses to train on, from the start"
    options.add(parser, "--until", types.number, "X", text, 0.5)
    text = "maximum number of epochs (default: the policy's)"
    options.add(parser, "--epochs", types.count, "N", text)
    options.add_seed(parser)
    options.add_dim(parser)
    options.add(parser, "--batch-size", types.count, "N", "samples per call of the served part", 32)
    parser.add_argument(
        "--no-serve",
        action="store_true",
        help="do not serve the next tenth, which takes a temporary file of all rows",
    )
    options.add_directory(parser)
    options.add_force(parser)


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    with waiting("loading torch"):
        train = trainer(arguments.policy)
    manifest_path = Path(arguments.out, "manifest.json")
    if manifest_path.exists():
        common.check_new(str(manifest_path), arguments.force)
    trace = common.read_trace(arguments.trace)
    epochs = {} if arguments.epochs is None else {"epochs": arguments.epochs}
    manifest = train(
        trace,
        arguments.out,
        options.fast_fractions(arguments, trace, [arguments.policy + ":"]),
        until=arguments.until,
        seed=arguments.seed,
        progress=bar,
        **epochs,
    )
    print(f"{trace.name}: {report.trace_summary(trace)}")
    print(f"trained on the first {manifest.trace.accesses:,} lookups\n")
    print("Simulated miss ratios of the last fifth of them, trained on the others:\n")
    print(report.validation_table(manifest.metrics["validation"]), flush=True)
    if not arguments.no_serve:
        print(f"\n{_served(trace, manifest, arguments)}", flush=True)
    print(
        f"\nTry it: tieralloc replay {arguments.trace} --policy lru,{manifest.policy}:"
        f"{arguments.out}"
    )


def _served(trace: Trace, manifest: Manifest, arguments: argparse.Namespace) -> str:
    """Serve the policy, and return its gain and its cost."""
    records, is_seen = serve_next(
        trace,
        Path(arguments.out),
        manifest,
        embedding_dim=arguments.embedding_dim,
        batch_size=arguments.batch_size,
        file_directory=common.working_directory(arguments.dir),
        progress=bar,
    )
    lookups = f"{records[0]['lookups']:,} lookups"
    which = f"the last {lookups}, which training has seen" if is_seen else f"the next {lookups}"
    (gain,) = learned_gains(records)
    return f"{report.wrap(f'Served, {which}: {gain}')}\n\n{report.replay_table(records)}"
