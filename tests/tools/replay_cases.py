"""Constants, calls and commands of the tests of tools; their fixtures are in conftest.py."""

from tieralloc.tools.cli.main import main
from tieralloc.tools.replay.callers import Call
from tieralloc.tools.simulate import OPT, policy_names

POLICIES = [policy for policy in policy_names() if policy != OPT]
COUNTS = ("fast_rows", "lookups", "hits", "on_demand_fetches", "miss_ratio", "evictions")
DIM = 16


def calls_of(trace, batch_size=32):
    return [Call(None, *batch) for batch in trace.batches(batch_size)]


def run(*arguments):
    """Run the command; return its exit status, also when argparse exits."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as error:
        return error.code
