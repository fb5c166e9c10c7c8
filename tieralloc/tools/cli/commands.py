"""What each subcommand of ``tieralloc`` does with its arguments."""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tieralloc import trace
from tieralloc._common.files import check_writable, naming
from tieralloc._common.numbers import parse_size
from tieralloc._common.progress import bar, narrated, waiting
from tieralloc.policies.registry import trainer
from tieralloc.policy.registry import with_learned
from tieralloc.policy.trained import TrainedPolicy
from tieralloc.tiers import parse_cpus
from tieralloc.tools import report
from tieralloc.tools.disk import default_directory, file_system_of
from tieralloc.tools.emulated import parse_slow
from tieralloc.tools.replay.replay import SECONDS
from tieralloc.tools.replay.replay import replay as replay_trace
from tieralloc.tools.report import Record
from tieralloc.tools.simulate import simulate as simulate_trace
from tieralloc.trace import Trace
from tieralloc.trace.stream import first_counted


def demo(arguments: argparse.Namespace) -> None:
    """``tieralloc demo``."""
    from tieralloc.tools import demo

    directory = _working_directory(arguments.dir)
    if arguments.plot is not None:
        _check_plot(arguments.plot)
    demo.run(directory, arguments.plot)


def generate(arguments: argparse.Namespace) -> None:
    """``tieralloc generate``."""
    check_writable(arguments.out)
    suffixes = [suffix for format in trace.FORMATS.values() for suffix in format.suffixes]
    if not arguments.out.lower().endswith(tuple(suffixes)):
        known = ", ".join(suffixes)
        raise ValueError(
            f"{arguments.out} has a suffix of no trace format, expected one of {known}"
        )
    given = {
        knob: getattr(arguments, knob)
        for knob in inspect.signature(trace.generate).parameters
        if getattr(arguments, knob, None) is not None
    }
    with waiting("generating"):
        made = trace.generate(**given)
    with waiting("writing"), naming(arguments.out):
        trace.write(made, arguments.out)
    print(f"{arguments.out}: {report.trace_summary(made)}\n")
    print(report.reuse_table(made))


def simulate(arguments: argparse.Namespace) -> None:
    """``tieralloc simulate``."""
    _check_outputs(arguments)
    with waiting("loading policies"):
        policies = with_learned(arguments.policy)
    made = _read(arguments.trace)
    _warn_of_known_accesses(policies, made, arguments.count_from)
    total = len(arguments.policy) * len(arguments.fast_fraction) * made.num_lookups
    with bar("simulating", total, "accesses") as done:
        records = simulate_trace(
            made,
            policies,
            arguments.fast_fraction,
            arguments.count_from,
            batch_size=arguments.batch_size,
            progress=done,
            seed=arguments.seed,
        )
    heading = report.counted_heading(made, records[0])
    _deliver(records, f"{heading}\n\n{report.miss_ratio_table(records)}", arguments)


def train(arguments: argparse.Namespace) -> None:
    """``tieralloc train``."""
    with waiting("loading torch"):
        train_policy = trainer(arguments.policy)
    made = _read(arguments.trace)
    options = {} if arguments.epochs is None else {"epochs": arguments.epochs}
    manifest = train_policy(
        made,
        arguments.out,
        arguments.fast_fraction,
        until=arguments.until,
        seed=arguments.seed,
        progress=narrated,
        **options,
    )
    print(f"{made.name}: {report.trace_summary(made)}")
    print(f"learned from: the first {manifest.trace.accesses:,} lookups\n")
    print(report.validation_table(manifest.metrics["validation"]))
    print(
        f"\nTry it: tieralloc simulate {arguments.trace} --policy lru,{manifest.policy}:"
        f"{arguments.out}"
    )


def replay(arguments: argparse.Namespace) -> None:
    """``tieralloc replay``."""
    if arguments.seconds is not None and arguments.rate is None:
        raise ValueError("--seconds says how long calls arrive, which needs --rate")
    in_file = arguments.slow == "file"
    slow = None if in_file else parse_slow(arguments.slow, arguments.promotion)
    if in_file and arguments.promotion != "auto":
        raise ValueError("--promotion: no effect with --slow file; expected numa:N or emulated:Nns")
    if not in_file and arguments.engine != "auto":
        raise ValueError("--engine: no effect with a slow tier in memory; expected --slow file")
    _check_outputs(arguments)
    directory = _working_directory(arguments.dir) if slow is None else None
    made = _read(arguments.trace)
    records = replay_trace(
        made,
        arguments.policy,
        arguments.fast_fraction,
        embedding_dim=arguments.embedding_dim,
        batch_size=arguments.batch_size,
        count_from=arguments.count_from,
        threads=arguments.threads,
        rates=arguments.rate,
        seconds=SECONDS if arguments.seconds is None else arguments.seconds,
        engine=arguments.engine,
        slow=slow,
        directory=directory,
        verify=arguments.verify,
        seed=arguments.seed,
        progress=bar,
    )
    if arguments.rate is None:
        heading, table = report.counted_heading, report.replay_table
    else:
        heading, table = report.open_loop_heading, report.open_loop_table
    last = records[-1]  # with "auto" an open loop's, which the first is not
    parts = [heading(made, last), report.replay_conditions(last), table(records)]
    if arguments.verify:
        calls = sum(record["verified"] for record in records)
        parts.append(f"Every vector of {calls:,} calls was compared with its source: all equal.")
    _deliver(records, "\n\n".join(parts), arguments)


def latency(arguments: argparse.Namespace) -> None:
    """``tieralloc latency``."""
    from tieralloc.tools import latency
    from tieralloc.tools import latency_report as _latency_report

    _check_outputs(arguments)
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
    checks = []
    if arguments.emulated is not None:
        with waiting("checking emulated latencies"):
            checks = latency.check_emulation(arguments.emulated, size, arguments.repeats)
    text = _latency_report.matrices(records)
    if checks:
        text += f"\n\n{_latency_report.emulation_table(checks)}"
    if arguments.json == "-":
        sys.stdout.write(report.to_json([*records, *checks]))
    else:
        print(text)
    sys.stdout.flush()
    if arguments.json not in (None, "-"):
        report.write_json([*records, *checks], arguments.json)
        _say_written(arguments.json)
    if arguments.plot is not None:
        with waiting("drawing"):
            _latency_report.draw_heat_maps(records, arguments.plot)
        _say_written(arguments.plot)


def compare(arguments: argparse.Namespace) -> None:
    """``tieralloc compare``."""
    from tieralloc.tools.comparing import run

    _check_outputs(arguments)
    if arguments.tried is not None:
        check_writable(arguments.tried)
    made = _read(arguments.trace)
    done, policies = run(made, arguments)
    _warn_of_known_accesses(policies, made, arguments.count_from)
    first = done.records[0]
    parts = [
        report.counted_heading(made, first),
        report.comparison_table(done.records),
        report.comparison_conditions(first),
    ]
    if arguments.tried is not None:
        report.write_json(done.tried, arguments.tried)
        _say_written(arguments.tried)
    _deliver(done.records, "\n\n".join(parts), arguments)


def doctor(arguments: argparse.Namespace) -> None:
    """``tieralloc doctor``."""
    from tieralloc.tools import doctor

    directory = Path(arguments.directory) if arguments.directory else default_directory()
    findings = doctor.examine(directory)
    if arguments.json:
        print(json.dumps([finding._asdict() for finding in findings], indent=2))
    else:
        print(doctor.to_text(findings))


def make_report(arguments: argparse.Namespace) -> None:
    """``tieralloc report``."""
    from tieralloc.tools.page import write_page

    with waiting("drawing"), naming(arguments.out):
        page = write_page(arguments.results, arguments.out)
    _say_written(str(page))


def _read(path: str) -> Trace:
    with waiting(f"reading {path}"):
        return trace.read(path)


def _warn_of_known_accesses(
    policies: Iterable[str | TrainedPolicy], made: Trace, count_from: float
) -> None:
    """Say where figures would be of what a policy learned from."""
    accesses = made.accesses()
    first = first_counted(len(accesses), count_from)
    for policy in policies:
        if not isinstance(policy, str) and policy.directory.has_seen(accesses, first):
            print(
                f"tieralloc: warning: {policy.name} learned from accesses that are counted here:"
                " its figures say nothing of what it has not seen",
                file=sys.stderr,
            )


def _working_directory(chosen: str | None) -> Path:
    directory = default_directory() if chosen is None else Path(chosen)
    check_writable(directory / "slow.tier")
    found = file_system_of(directory)
    if found.in_memory:
        print(
            f"tieralloc: warning: {directory} is on {found.kind}, which is DRAM: nothing here will"
            " be fetched from a disk; --dir puts the slow tier elsewhere",
            file=sys.stderr,
        )
    return directory


def _check_outputs(arguments: argparse.Namespace) -> None:
    """Refuse, before any work, output files that could not be written after it."""
    if arguments.json not in (None, "-"):
        check_writable(arguments.json)
    if arguments.plot is not None:
        _check_plot(arguments.plot)


def _check_plot(path: str) -> None:
    from tieralloc.tools.plots.records import check_plot

    check_plot(path)
    check_writable(path)


def _deliver(records: Sequence[Record], text: str, arguments: argparse.Namespace) -> None:
    if arguments.json == "-":
        sys.stdout.write(report.to_json(records))
    else:
        print(text)
    sys.stdout.flush()
    if arguments.json not in (None, "-"):
        report.write_json(records, arguments.json)
        _say_written(arguments.json)
    if arguments.plot is not None:
        with waiting("drawing"):
            _draw(records, arguments.plot)
        _say_written(arguments.plot)


def _draw(records: Sequence[Record], path: str) -> None:
    if "caching" in records[0]:
        from tieralloc.tools.plots.comparison import plot_comparison

        plot_comparison(records, path)
        return
    from tieralloc.tools.plots.records import plot

    plot(records, path)


def _say_written(path: str) -> None:
    print(f"wrote {path}", file=sys.stderr)
