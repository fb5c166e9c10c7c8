"""docs/results.md: the ratios of the paper and ours, and the figures of the ratios."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from bench.paper.claims import CLAIMS, RECMG, Cell, Grid, Record, mark, verdict
from bench.scenery.results import from_columns
from bench.scenery.tables import NONE, markdown
from tieralloc._common.numbers import format_size
from tieralloc.tools.report import percent

_READING = """\
Accesses are replayed one at a time; an access to a row that is not in the fast tier is an on-demand
fetch. The first half of a trace is learned from and warms the tier, the second is counted. A
capacity is a share of the distinct rows of the trace; prefetched rows take slots of the same tier.
Each baseline is tuned for each trace, capacity and caching on the last fifth of the training half;
`bench/results/paper.json` has the settings chosen. recmg and TransFetch are trained on the training
half, one seed."""

_CLAIMS = """\
On-demand fetches of a prefetcher over LRU ÷ those of recmg. "Out of reach" are the cells where a
policy that misses nothing but the first access of each row stays below the ratio of the paper: no
prefetcher of rows seen before can reach it there. A baseline at 1.00 of LRU's fetches gains
nothing, so that all of the ratio has to be recmg's gain on LRU."""

_LAGGING = """\
Above, a prefetched row is resident at the next access. Here it is in flight for {lag} accesses; an
access to it until then is an on-demand fetch, and the prefetch is late. Baselines are tuned for
that; recmg is not."""


def markdown_page(content: Mapping[str, Any], pictures: Mapping[str, str]) -> str:
    """Return the page of the content of ``paper.json``; `pictures` are plots by trace, as paths."""
    records = from_columns(content)
    grid = Grid(records, content["traces"])
    packages = ", ".join(f"{name} {version}" for name, version in content["packages"].items())
    parts = [
        "# Prefetchers side by side",
        _READING,
        f"- Command: `make paper` (`{content['command']}`), commit {content['commit']}\n"
        f"- Machine: {content['machine']}\n- Packages: {packages}",
        "## The ratios of the paper and ours",
        _CLAIMS,
        _claims(grid),
        "Of all policies, on-demand fetches ÷ those of recmg; ✓ where the ratio of the paper is"
        " reached:",
        _ratios(grid),
    ]
    for trace, facts in content["traces"].items():
        parts += _of_trace(trace, facts, grid, pictures.get(trace))
    parts += _lagging([record for record in records if "prefetch_lag" in record])
    return "\n\n".join(parts)


def _claims(grid: Grid) -> str:
    heads = ("prefetcher", "paper", "ours, median", "cells that reach it")
    heads += ("prefetcher ÷ LRU, median", "recmg ÷ LRU, median", "cells out of reach")
    return markdown(heads, (verdict(claim, grid) for claim in CLAIMS))


def _ratios(grid: Grid) -> str:
    wanted = {claim.policy: claim.ratio for claim in CLAIMS}
    rows = []
    for policy in grid.policies:
        if policy != RECMG:
            ratios = grid.ratios(policy)
            rows.append(
                [policy, *(mark(ratio, wanted.get(policy)) for ratio in [*ratios, median(ratios)])]
            )
    heads = (f"{trace} {percent(fraction)}" for trace, fraction in grid.cells)
    return markdown(["", *heads, "median"], rows)


def _of_trace(trace: str, facts: Mapping[str, Any], grid: Grid, picture: str | None) -> list[str]:
    cells = [cell for cell in grid.cells if cell[0] == trace]
    counted = grid.at(cells[0], RECMG)["lookups"]
    fewest = {cell: min(grid.policies, key=lambda name: grid.fetches(cell, name)) for cell in cells}
    prefetching = [
        name
        for name in grid.policies
        if any("prefetches_issued" in grid.at(cell, name) for cell in cells)
    ]

    def miss_ratio(cell: Cell, policy: str) -> str:
        text = _miss_ratio(grid.at(cell, policy))
        return f"**{text}**" if policy == fewest[cell] else text

    def table(policies: Sequence[str], text: Callable[[Cell, str], str]) -> str:
        rows = ([policy, *(text(cell, policy) for cell in cells)] for policy in policies)
        return markdown(["policy", *(percent(fraction) for _, fraction in cells)], rows)

    parts = [
        f"## {trace}",
        f"{facts['lookups']:,} lookups, {counted:,} of them counted;"
        f" {facts['first_accesses'] / counted:.1%} of these are of rows never accessed before."
        " On-demand fetches ÷ lookups, in brackets ÷ LRU's; in bold the fewest:",
        table(grid.policies, miss_ratio),
        "Prefetched rows per access, the share of them that was used, and the share of misses that"
        " they served:",
        table(prefetching, lambda cell, policy: _prefetches(grid.at(cell, policy))),
        "CPU µs per access of a whole replay on one thread, eviction and models included; bytes of"
        f" state, models included. Training recmg took {facts['recmg_training_cpu_seconds']} s of"
        " CPU:",
        table(grid.policies, lambda cell, policy: _cost(grid.at(cell, policy))),
    ]
    if picture is not None:
        parts.append(f"![Miss ratios on {trace}: prefetchers over LRU, and recmg]({picture})")
    return parts


def _lagging(records: Sequence[Record]) -> list[str]:
    by_policy = {(record["trace"], record["policy"]): record for record in records}
    traces = dict.fromkeys(trace for trace, _ in by_policy)
    rows = (
        [policy, *(_late(by_policy[trace, policy]) for trace in traces)]
        for policy in dict.fromkeys(policy for _, policy in by_policy)
    )
    heads = (f"{trace} {percent(records[0]['fast_fraction'])}" for trace in traces)
    reading = _LAGGING.format(lag=records[0]["prefetch_lag"])
    return ["## Fetches that take time", reading, markdown(["policy", *heads], rows)]


def _miss_ratio(record: Record) -> str:
    return f"{record['miss_ratio']:.4f} ({record['to_lru']:.3f})"


def _prefetches(record: Record) -> str:
    issued, useful = (record.get(f"prefetches_{what}", 0) for what in ("issued", "useful"))
    used = f"{useful / issued:.1%}" if issued else NONE
    coverage = useful / max(useful + record["on_demand_fetches"], 1)
    return f"{issued / record['lookups']:.3f}, {used}, {coverage:.1%}"


def _cost(record: Record) -> str:
    return f"{record['cpu_us_per_access']:.3g} µs, {format_size(record['policy_bytes'])}"


def _late(record: Record) -> str:
    late, useful = (record.get(f"prefetches_{what}", 0) for what in ("late", "useful"))
    share = f", {late / max(late + useful, 1):.1%} late" if "prefetches_issued" in record else ""
    return f"{_miss_ratio(record)}{share}"
