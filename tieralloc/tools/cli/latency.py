"""``tieralloc latency``."""

from __future__ import annotations

import argparse

from tieralloc._common.numbers import parse_size
from tieralloc._common.progress import bar, waiting
from tieralloc.tiers import parse_cpus
from tieralloc.tools import latency, latency_report
from tieralloc.tools.cli import arguments as types
from tieralloc.tools.cli import common, options

DESCRIPTION = """\
Measure the memory of each node from the CPUs of each node: dependent loads (a chase over huge
pages, larger than the caches), streams, random gathers of rows, and the store's lookup with its
slow tier on that node. All threads are pinned. Use an idle machine."""
EXAMPLES = """\
tieralloc latency
tieralloc latency --from-cpus 0-3 --node 1 --json latency.json
tieralloc latency --emulated 150,400 --plot latency.png"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    text = "CPUs to measure from, such as 0-3,8 (default: the CPUs of each node)"
    options.add(parser, "--from-cpus", str, "LIST", text)
    options.add(parser, "--node", str, "LIST", "nodes to measure (default: all)")
    text = "memory to measure per node (default: 4 times the largest cache, 64MiB to 1GiB)"
    options.add(parser, "--bytes", str, "SIZE", text)
    options.add(parser, "--repeats", types.count, "N", "samples per metric", latency.REPEATS)
    text = "extra latencies of an emulated slow tier to compare with measured loads"
    options.add(parser, "--emulated", types.nanoseconds, "NS[,NS…]", text)
    options.add_outputs(parser)


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    common.check_outputs(arguments)
    nodes = None if arguments.node is None else parse_cpus(arguments.node)
    cpus = None if arguments.from_cpus is None else parse_cpus(arguments.from_cpus)
    size = None if arguments.bytes is None else parse_size(arguments.bytes, "bytes")
    records = latency.measure(
        nodes,
        cpus,
        bytes_of_node=latency.memory_bytes if size is None else lambda _: size,
        repeats=arguments.repeats,
        progress=bar,
    )
    text = latency_report.matrices(records)
    checks = []
    if arguments.emulated is not None:
        with waiting("checking emulated latencies"):
            checks = latency.check_emulation(arguments.emulated, size, arguments.repeats)
        text += f"\n\n{latency_report.emulation_table(checks)}"
    common.write_outputs(
        [*records, *checks],
        text,
        arguments,
        lambda _, path: latency_report.draw_heat_maps(records, path),
    )
