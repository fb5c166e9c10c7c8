"""``tieralloc train``."""

from __future__ import annotations

import argparse

from tieralloc._common.progress import bar, waiting
from tieralloc.policies.registry import learned_names, trainer
from tieralloc.tools import report
from tieralloc.tools.cli import arguments as types
from tieralloc.tools.cli import common, options

DESCRIPTION = """\
Train the models of a learned policy on the first half of a trace, for each capacity, and write
them into a directory for simulate and replay: --policy NAME:DIR. The last fifth of that half is
for validation: it ends the training, and the table shows its miss ratios. An interrupted training
continues when you run the command again. Needs torch. A trained model can run code: use only
models that you trust."""
EXAMPLES = """\
tieralloc train day.npz --out recmg-day
tieralloc train day.npz --out recmg-day --fast-fraction 1%,5% --until 0.8 --seed 7"""


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


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    with waiting("loading torch"):
        train = trainer(arguments.policy)
    trace = common.read_trace(arguments.trace)
    epochs = {} if arguments.epochs is None else {"epochs": arguments.epochs}
    manifest = train(
        trace,
        arguments.out,
        arguments.fast_fraction,
        until=arguments.until,
        seed=arguments.seed,
        progress=bar,
        **epochs,
    )
    print(f"{trace.name}: {report.trace_summary(trace)}")
    print(f"trained on the first {manifest.trace.accesses:,} lookups\n")
    print(report.validation_table(manifest.metrics["validation"]))
    print(
        f"\nTry it: tieralloc simulate {arguments.trace} --policy lru,{manifest.policy}:"
        f"{arguments.out}"
    )
