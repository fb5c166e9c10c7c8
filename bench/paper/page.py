"""docs/results.md: the paper's ratios beside ours, and everything they come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from tieralloc.policies.baselines.registry import baseline_names

from bench.paper.claims import CLAIMS, RECMG, Grid, verdict
from tieralloc._common.numbers import format_size
from tieralloc.tools.compare import NONE
from tieralloc.tools.report import percent

Record = dict[str, Any]

_READING = """\
One access at a time; a row that is not in the fast tier when it is asked for is an on-demand fetch.
The first half of a trace is learned from and warms the tier, the second is counted. A capacity is a
share of the trace's distinct rows; prefetched rows take slots of the same tier. Every baseline is
tuned for each trace, capacity and caching: trained on the first four fifths of the training half,
tested on its last fifth; `bench/results/paper-tuning.md` has the settings tried. recmg and
TransFetch are trained on the training half, one seed."""

_LAGGING = """\
Above, a prefetched row is resident at the next access. Here it is in flight for {lag} accesses; an
access to it until then is an on-demand fetch, and the prefetch is late. Baselines are tuned for
that; recmg is as it was."""


def markdown(
    records: Sequence[Record],
    notes: Sequence[str],
    seconds: Mapping[str, Mapping[str, float]],
    pictures: Mapping[str, str],
) -> str:
    """Lay out everything.

    Parameters
    ----------
    records : sequence of dict
        Of `tieralloc.tools.compare`, with what `work.compare_at` adds.
    notes : sequence of str
        What to say of the run, a line each.
    seconds : mapping
        CPU seconds of training, by trace and model.
    pictures : mapping of str to str
        Plots by trace, as paths from the page.
    """
    grid = Grid(records)
    parts = ["# Prefetchers beside each other", _READING, "\n".join(notes)]
    parts += ["## The paper's ratios and ours", _claims(grid)]
    parts += ["\n".join(f"- {verdict(claim, grid)}" for claim in CLAIMS)]
    parts += ["Of other pairs, in the same way, the fetches of each ÷ recmg's:", _others(grid)]
    for trace in dict.fromkeys(trace for trace, _ in grid.cells):
        parts += _of_trace(trace, grid, seconds.get(trace, {}), pictures.get(trace))
    parts += _lagging(records)
    return "\n\n".join(part for part in parts if part) + "\n"


def _claims(grid: Grid) -> str:
    """Ratios cell by cell, and the median; ✓ where the paper's is reached."""
    head = ["on-demand fetches ÷ recmg's", "paper", *map(_cell_name, grid.cells), "median"]
    rows = []
    for claim in CLAIMS:
        ratios = grid.ratios(f"lru+{claim.prefetching}")
        marked = [_marked(ratio, claim.ratio) for ratio in [*ratios, median(ratios)]]
        rows.append([f"{claim.title} over LRU", f"{claim.ratio}", *marked])
        bounds = grid.bounds(f"lru+{claim.prefetching}")
        shown = [f"{bound:.2f}" for bound in [*bounds, median(bounds)]]
        rows.append(["at most, were all but new rows predicted", "", *shown])
    return _table(head, rows)


def _others(grid: Grid) -> str:
    head = ["", *map(_cell_name, grid.cells), "median"]
    claimed = {f"lru+{claim.prefetching}" for claim in CLAIMS}
    policies = ["lru", "s3fifo"]
    policies += [
        f"{caching}+{baseline}" for caching in ("lru", "s3fifo") for baseline in baseline_names()
    ]
    rows = []
    for policy in [*policies, f"{RECMG}-caching"]:
        if policy in claimed:
            continue
        ratios = grid.ratios(policy)
        rows.append([policy, *(f"{ratio:.2f}" for ratio in [*ratios, median(ratios)])])
    return _table(head, rows)


def _of_trace(
    trace: str, grid: Grid, seconds: Mapping[str, float], picture: str | None
) -> list[str]:
    cells = [cell for cell in grid.cells if cell[0] == trace]
    policies = _policies(grid, cells[0])
    first = grid.of(cells[0], policies[0])
    new = first["first_accesses"] / first["lookups"]
    parts = [
        f"## {trace}",
        f"{first['trace_lookups']:,} lookups, {first['lookups']:,} of them counted; {new:.1%} of"
        " these are of rows never accessed before. On-demand fetches ÷ lookups, and in brackets ÷"
        " LRU's; in bold the fewest:",
        _miss_ratios(grid, cells, policies),
    ]
    if picture is not None:
        parts.append(f"![On-demand fetches on {trace}, and miss ratio curves]({picture})")
    prefetching = [
        policy for policy in policies if grid.of(cells[0], policy)["prefetching"] != NONE
    ]
    parts += [
        "Prefetched rows per access, and the share of them that was used; then the share of misses"
        " that they served (coverage):",
        _quality(grid, cells, prefetching),
        "CPU µs an access of a whole replay, one thread, eviction and models included, and what is"
        " remembered of rows, models included:",
        _costs(grid, cells, policies),
    ]
    if seconds:
        spent = ", ".join(f"{name} {each:.0f}" for name, each in seconds.items())
        parts.append(f"CPU seconds of training: {spent} (all of TransFetch's four networks).")
    return parts


def _policies(grid: Grid, cell: tuple[str, float]) -> list[str]:
    order = [NONE, *baseline_names(), RECMG]
    names = [f"{RECMG}-caching", RECMG]
    found = [f"{c}+{p}" if p != NONE else c for c in ("lru", "s3fifo") for p in order if p != RECMG]
    return [*found, *names]


def _miss_ratios(grid: Grid, cells: Sequence[tuple[str, float]], policies: Sequence[str]) -> str:
    best = {cell: min(policies, key=lambda policy: grid.fetches(cell, policy)) for cell in cells}
    rows = []
    for policy in policies:
        line = [policy]
        for cell in cells:
            record = grid.of(cell, policy)
            text = f"{record['miss_ratio']:.4f}"
            text = f"**{text}**" if best[cell] == policy else text
            line.append(f"{text} ({record['to_lru']:.3f})")
        rows.append(line)
    return _table(["policy", *(percent(fraction) for _, fraction in cells)], rows)


def _quality(grid: Grid, cells: Sequence[tuple[str, float]], policies: Sequence[str]) -> str:
    rows = []
    for policy in policies:
        line = [policy]
        for cell in cells:
            record = grid.of(cell, policy)
            issued = record["prefetches_issued"] / record["lookups"]
            used = "-" if record["accuracy"] is None else f"{record['accuracy']:.1%}"
            line.append(f"{issued:.3f}, {used}, {record['coverage']:.1%}")
        rows.append(line)
    return _table(["policy", *(percent(fraction) for _, fraction in cells)], rows)


def _costs(grid: Grid, cells: Sequence[tuple[str, float]], policies: Sequence[str]) -> str:
    rows = []
    for policy in policies:
        records = [grid.of(cell, policy) for cell in cells]
        texts = (
            f"{record['cpu_us_per_access']:.3g} µs, {format_size(record['policy_bytes'])}"
            for record in records
        )
        rows.append([policy, *texts])
    return _table(["policy", *(percent(fraction) for _, fraction in cells)], rows)


def _lagging(records: Sequence[Record]) -> list[str]:
    late = [record for record in records if record["prefetch_lag"]]
    if not late:
        return []
    cells = list(dict.fromkeys((r["trace"], r["fast_fraction"], r["prefetch_lag"]) for r in late))
    found = {(r["trace"], r["fast_fraction"], r["prefetch_lag"], r["policy"]): r for r in late}
    rows = []
    for policy in dict.fromkeys(r["policy"] for r in late):
        line = [policy]
        for cell in cells:
            record = found[(*cell, policy)]
            lateness = record["lateness"] if record["prefetches_issued"] else None
            text = "" if lateness is None else f", {lateness:.1%} late"
            line.append(f"{record['miss_ratio']:.4f} ({record['to_lru']:.3f}){text}")
        rows.append(line)
    head = ["policy", *(f"{trace} {percent(fraction)}" for trace, fraction, _ in cells)]
    return ["## Fetches that take time", _LAGGING.format(lag=cells[0][2]), _table(head, rows)]


def _cell_name(cell: tuple[str, float]) -> str:
    return f"{cell[0]} {percent(cell[1])}"


def _marked(ratio: float, wanted: float) -> str:
    return f"{ratio:.2f}{' ✓' if ratio >= wanted else ''}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *(["---:"] * (len(head) - 1))], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
