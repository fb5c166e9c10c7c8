"""Records of policies as sections of a page: what was fetched, how long it took, what it cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from tieralloc._common.numbers import format_size
from tieralloc.tools.page.charts import Charts
from tieralloc.tools.page.html import (
    NOTHING,
    Cell,
    Markup,
    Part,
    bars,
    details,
    grid,
    legend,
    paragraph,
    section,
    table,
)
from tieralloc.tools.page.results import number
from tieralloc.tools.report import Record, microseconds, percent, rate

_BASELINE = "lru"
#: What is beside the policies for its own sake: it knows the future, or has no tier to fill.
_OPT = "opt"
_IN_DRAM = "all in DRAM"
#: What a reader must not mix: where these differ within a trace, it is shown in parts.
_SETTINGS = ("placement", "batch_size", "embedding_dim", "threads")
#: Said of the whole file, or shown in sections of their own.
_KNOWN = {
    *("policy", "trace", "fast_fraction", "fast_rows", "lookups", "hits", "on_demand_fetches"),
    *("miss_ratio", "prefetches_issued", "prefetches_useful", "prefetches_late", "evictions"),
    *("machine", "slow_tier", "measured_by", "trace_sha256", "seed", "verified", "loop"),
    *("rows_per_second", "offered_rate", "achieved_rate", "rate_unit", "backlog", "saturated"),
    *("dram_bytes", "cpu_us_per_access", "training_cpu_seconds", "calls", "caching"),
    *("prefetching", "trace_lookups", "warm_up_lookups", "policy_bytes", "to_lru", "coverage"),
    *("accuracy", "lateness"),
}
_TIME_RATIO = "time ÷ lru"
#: Of these a record holds several figures, which are shown otherwise.
_NESTED = ("latency_us", "time_us", "cpu_us", "time_to_lru")
_PERCENTILES = ("p50", "p90", "p99", "p999", "max")
_HEADS = ("p50 µs", "p90 µs", "p99 µs", "p99.9 µs", "max µs")


def sections_of(records: Sequence[Record], charts: Charts) -> list[tuple[str, Markup]]:
    """Make a section for each trace.

    Returns
    -------
    list of (str, str)
        Name of the trace, and markup.
    """
    made = []
    for trace, of_trace in _grouped(records, lambda record: record["trace"]).items():
        parts = []
        for setting, own in _by_setting(of_trace).items():
            body = _sections(own, charts)
            parts += [section(setting, body)] if setting else body
        made.append((trace, "\n".join(part for part in parts if part)))
    return made


def conditions_of(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Say what all records were measured with and on: names and values."""
    found = []
    for key, name in (
        ("machine", "machine"),
        ("measured_by", "measured by"),
        ("slow_tier", "slow tier"),
        ("batch_size", "samples a call"),
        ("embedding_dim", "elements a row"),
        ("threads", "callers"),
    ):
        values = list(dict.fromkeys(str(r[key]) for r in records if r.get(key) is not None))
        if values and (key not in _SETTINGS or len(values) == 1):
            found.append((name, "; ".join(values)))
    return found


def _by_setting(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Part records by the settings in which they differ."""
    varied = [key for key in _SETTINGS if len({str(r.get(key)) for r in records}) > 1]

    def setting(record: Record) -> str:
        return ", ".join(f"{key.replace('_', ' ')}: {record.get(key)}" for key in varied)

    return _grouped(records, setting)


def _sections(records: Sequence[Record], charts: Charts) -> list[Markup]:
    opened = [record for record in records if record.get("loop") == "open"]
    closed = [record for record in records if record.get("loop") != "open"]
    # Where both are there, the closed loop counts: an open one may not have reached all calls.
    counted = [record for record in records if record.get("loop") != "open"] or opened
    return [
        section("On-demand fetches", _fetches(counted, charts), 4),
        section("Prefetches", _prefetches(counted), 4),
        section("Closed loop", _latencies(closed, charts), 4),
        section("Open loop", _loads(records, opened, charts), 4) if opened else "",
        section("Where the time goes", _shares(records), 4),
        section("What it costs", [_costs(counted)], 4),
        details("Further figures", [_further(records)]),
    ]


def _fetches(records: Sequence[Record], charts: Charts) -> list[Markup]:
    fractions = _fractions(records)
    cells = _by_cell(records)
    ratios = {place: _median(of_cell, "miss_ratio") for place, of_cell in cells.items()}
    parts = [
        paragraph(f"{_counted(records)} {_reading(ratios)}"),
        _miss_table(records, fractions, ratios),
    ]
    if len(fractions) > 1:
        medians = [
            {**cells[place][0], "miss_ratio": ratio}
            for place, ratio in ratios.items()
            if ratio is not None
        ]
        parts.append(charts.miss_ratios(medians))
    parts.append(
        grid((_fetch_bars(records, fraction, ratios) for fraction in fractions), small=True)
    )
    return parts


def _counted(records: Sequence[Record]) -> str:
    lookups = {record["lookups"] for record in records}
    if len(lookups) == 1:
        return f"{lookups.pop():,} lookups counted."
    return f"{min(lookups):,} to {max(lookups):,} lookups counted."


def _reading(ratios: Mapping[tuple[str, float], float | None]) -> str:
    policies = {policy for policy, _ in ratios}
    words = "Share of lookups that were fetched on demand."
    if len(policies) > 1:
        aside = " (opt, which knows the future, aside)" if _OPT in policies else ""
        if any(policy.startswith(_IN_DRAM) for policy in policies):
            aside = " (what is all in DRAM aside)"
        words += f" The lowest of each column is marked{aside}."
    if _BASELINE in policies and len(policies) > 1:
        words += " The small figures are ratios to lru."
    return words


def _miss_table(
    records: Sequence[Record],
    fractions: Sequence[float],
    ratios: Mapping[tuple[str, float], float | None],
) -> Markup:
    rows: dict[float, list[str]] = {}
    for record in records:
        sizes = rows.setdefault(record["fast_fraction"], [])
        if (size := f"{record['fast_rows']:,}") not in sizes:
            sizes.append(size)
    fewest = {
        fraction: min(
            (
                ratio
                for (policy, at), ratio in ratios.items()
                if at == fraction and _competes(policy) and ratio is not None
            ),
            default=None,
        )
        for fraction in fractions
    }
    lines: list[list[Cell | str]] = [
        [Cell("fast rows"), *(" / ".join(rows[fraction]) for fraction in fractions)]
    ]
    for policy in _policies(records):
        line: list[Cell | str] = [policy]
        for fraction in fractions:
            ratio = ratios.get((policy, fraction))
            if ratio is None:
                line.append(NOTHING)
                continue
            baseline = ratios.get((_BASELINE, fraction))
            side = f"{ratio / baseline:.3f}" if baseline and policy != _BASELINE else ""
            best = _competes(policy) and ratio == fewest[fraction] and len(ratios) > len(fractions)
            line.append(Cell(f"{ratio:.4f}", side, best))
        lines.append(line)
    return table(["policy", *(percent(fraction) for fraction in fractions)], lines)


def _fetch_bars(
    records: Sequence[Record], fraction: float, ratios: Mapping[tuple[str, float], float | None]
) -> Markup:
    found = {
        policy: ratio
        for policy in _policies(records)
        if (ratio := ratios.get((policy, fraction))) is not None
    }
    longest = max(found.values(), default=0)
    if len(found) < 2 or longest <= 0:
        return ""
    rows = [
        (policy, [Part(f"{ratio:.4f}", ratio / longest, _colour(policy))], f"{100 * ratio:.1f}%")
        for policy, ratio in found.items()
    ]
    return bars(rows, f"On-demand fetches, {percent(fraction)} in DRAM")


def _colour(policy: str) -> int:
    """Colour baselines grey, learned policies so that they stand out, and all others alike."""
    if policy == _BASELINE or not _competes(policy):
        return 6
    return 1 if policy.startswith("recmg") else 0


def _competes(policy: str) -> bool:
    return policy != _OPT and not policy.startswith(_IN_DRAM)


def _prefetches(records: Sequence[Record]) -> list[Markup]:
    lines: list[list[Cell | str]] = []
    for (policy, fraction), own in _by_cell(records).items():
        issued = _median(own, "prefetches_issued")
        if not issued:
            continue
        lookups, fetched = _median(own, "lookups"), _median(own, "on_demand_fetches")
        useful, late = (_median(own, f"prefetches_{what}") or 0 for what in ("useful", "late"))
        lines.append(
            [
                policy,
                percent(fraction),
                f"{issued:,.0f}",
                _or_nothing(lookups and issued / lookups, lambda value: f"{value:.3f}"),
                _share(useful, useful + (fetched or 0)),
                _share(useful, issued),
                _share(late, late + useful),
            ]
        )
    if not lines:
        return []
    return [
        paragraph(
            "Coverage: misses that rows fetched ahead served, of these and those that remained."
            " Accuracy: used, of those issued. Lateness: asked for while in flight, of these and"
            " those used."
        ),
        table(["policy", "fast", "issued", "a lookup", "coverage", "accuracy", "lateness"], lines),
    ]


def _latencies(records: Sequence[Record], charts: Charts) -> list[Markup]:
    shown = [record for record in records if number(record, "latency_us", "p50") is not None]
    lines: list[list[Cell | str]] = [
        [
            record["policy"],
            percent(record["fast_fraction"]),
            *(_rate_cell(record, key) for key in ("rows_per_second", "achieved_rate")),
            *_percentile_cells(record),
            _time_ratio(record),
        ]
        for record in shown
    ]
    unit = next((record["rate_unit"] for record in shown if record.get("rate_unit")), "calls/s")
    return [
        _without_empty(["policy", "fast", "rows/s", str(unit), *_HEADS, _TIME_RATIO], lines),
        charts.latencies(shown),
        grid((_time_bars(shown, fraction) for fraction in _fractions(shown)), small=True),
    ]


def _time_ratio(record: Record) -> Cell | str:
    middle = number(record, "time_to_lru", "median")
    low, high = (number(record, "time_to_lru", key) for key in ("low", "high"))
    if middle is None:
        return NOTHING
    spread = "" if low is None or high is None else f"{low:.3f} to {high:.3f}"
    return Cell(f"{middle:.3f}", spread)


def _time_bars(records: Sequence[Record], fraction: float) -> Markup:
    found = [
        (record["policy"], ratio)
        for record in records
        if record["fast_fraction"] == fraction
        and (ratio := number(record, "time_to_lru", "median")) is not None
    ]
    longest = max((ratio for _, ratio in found), default=0)
    if len(found) < 2 or longest <= 0:
        return ""
    rows = [
        (policy, [Part(f"{ratio:.3f}", ratio / longest, _colour(policy))], f"{ratio:.3f}")
        for policy, ratio in found
    ]
    marks = [1 / longest] * len(rows)
    return bars(rows, f"Time of a request ÷ LRU's, {percent(fraction)} in DRAM", marks)


def _loads(records: Sequence[Record], opened: Sequence[Record], charts: Charts) -> list[Markup]:
    """Lay out an open loop; the closed one of the same capacities is in its plots."""
    fractions = {record["fast_fraction"] for record in opened}
    drawn = [record for record in records if record["fast_fraction"] in fractions]
    shown = [record for record in opened if number(record, "latency_us", "p50") is not None]
    lines: list[list[Cell | str]] = []
    for record in shown:
        saturated = record.get("saturated") is True
        lines.append(
            [
                record["policy"],
                percent(record["fast_fraction"]),
                _rate_cell(record, "offered_rate"),
                _rate_cell(record, "achieved_rate"),
                *_percentile_cells(record),
                _time_ratio(record),
                Cell("saturated", good=False) if saturated else "",
            ]
        )
    unit = next((record["rate_unit"] for record in shown if record.get("rate_unit")), "calls/s")
    return [
        paragraph(
            "Open loop: calls arrive whether or not those before them are answered, and latency"
            " counts from then. A saturated rate is more than was served."
        ),
        _without_empty(
            ["policy", "fast", f"offered, {unit}", "achieved", *_HEADS, _TIME_RATIO, ""], lines
        ),
        charts.rates(drawn),
    ]


def _shares(records: Sequence[Record]) -> list[Markup]:
    """Draw what records say of the parts of a call's time, and of the CPU that it took."""
    return [
        *_part_bars(records, "time_us", "Time of a call, µs"),
        *_part_bars(records, "cpu_us", "CPU of a call, µs, by thread"),
    ]


def _part_bars(records: Sequence[Record], key: str, label: str) -> list[Markup]:
    figures = []
    names: list[str] = []
    closed = [record for record in records if record.get("loop") != "open"]
    for fraction in _fractions(closed):
        rows = []
        for record in closed:
            parts = record.get(key)
            if record["fast_fraction"] != fraction or not isinstance(parts, Mapping):
                continue
            found = {name: number(parts, name) or 0.0 for name in parts}
            names += [name for name in found if name not in names]
            rows.append((record["policy"], found))
        longest = max((sum(found.values()) for _, found in rows), default=0)
        if longest <= 0:
            continue
        drawn = [
            (
                policy,
                [
                    Part(f"{name}: {microseconds(us)} µs", us / longest, names.index(name) % 6)
                    for name, us in found.items()
                ],
                microseconds(sum(found.values())),
            )
            for policy, found in rows
        ]
        figures.append(bars(drawn, f"{label}, {percent(fraction)} of the rows in DRAM"))
    if not figures:
        return []
    return [legend([(name, place % 6) for place, name in enumerate(names)]), grid(figures)]


def _costs(records: Sequence[Record]) -> Markup:
    figures: tuple[tuple[str, str, Callable[[float], str]], ...] = (
        ("cpu_us_per_access", "CPU µs an access", lambda value: f"{value:.3g}"),
        ("training_cpu_seconds", "training, CPU s", lambda value: f"{value:,.0f}"),
        ("policy_bytes", "state", _size),
        ("dram_bytes", "DRAM used", _size),
    )
    lines: list[list[Cell | str]] = []
    for policy in _policies(records):
        own = [record for record in records if record["policy"] == policy]
        cells = [_range([number(r, key) for r in own], form) for key, _, form in figures]
        if any(cell != NOTHING for cell in cells):
            lines.append([policy, *cells])
    return _without_empty(["policy", *(name for _, name, _ in figures)], lines)


def _range(values: Sequence[float | None], form: Callable[[float], str]) -> str:
    """Say the lowest and the highest value, over capacities and seeds, where they differ."""
    known = [value for value in values if value is not None]
    if not known:
        return NOTHING
    ends = dict.fromkeys((form(min(known)), form(max(known))))
    return " to ".join(ends)


def _further(records: Sequence[Record]) -> Markup:
    """Show every figure of a record that has no place of its own, so that none is lost."""
    skipped = {*_KNOWN, *_SETTINGS}
    flat = [_flat(record) for record in records]
    names = list(
        dict.fromkeys(
            key
            for record in flat
            for key, value in record.items()
            if key not in skipped and (isinstance(value, str) or number(record, key) is not None)
        )
    )
    if not names:
        return ""
    lines: list[list[Cell | str]] = [
        [
            record["policy"],
            percent(record["fast_fraction"]),
            *(_plain(record.get(name)) for name in names),
        ]
        for record in flat
    ]
    return table(["policy", "fast", *(name.replace("_", " ") for name in names)], lines)


def _flat(record: Record) -> Record:
    """Put figures that lie one level deeper beside the others."""
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, Mapping) and key not in _NESTED:
            flat |= {f"{key}: {inner}": each for inner, each in value.items()}
        else:
            flat[key] = value
    return flat


def _percentile_cells(record: Record) -> list[str]:
    values = (number(record, "latency_us", key) for key in _PERCENTILES)
    return [_or_nothing(value, microseconds) for value in values]


def _rate_cell(record: Record, key: str) -> str:
    return _or_nothing(number(record, key), rate)


def _without_empty(head: Sequence[str], lines: Sequence[Sequence[Cell | str]]) -> Markup:
    """Lay out the columns of which some record has a figure."""
    kept = [
        place
        for place in range(len(head))
        if place < 1 or any(line[place] != NOTHING for line in lines)
    ]
    return table(
        [head[place] for place in kept], [[line[place] for place in kept] for line in lines]
    )


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e6 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return value if isinstance(value, str) else NOTHING


def _size(value: float) -> str:
    return format_size(round(value))


def _or_nothing(value: float | None, form: Callable[[float], str]) -> str:
    return NOTHING if value is None else form(value)


def _share(value: float, whole: float) -> str:
    return f"{value / whole:.1%}" if whole else NOTHING


def _median(records: Sequence[Record], key: str) -> float | None:
    """Return the median of what several seeds came to."""
    values = [value for record in records if (value := number(record, key)) is not None]
    return median(values) if values else None


def _by_cell(records: Sequence[Record]) -> dict[tuple[str, float], list[Record]]:
    cells: dict[tuple[str, float], list[Record]] = {}
    for policy in _policies(records):
        for fraction in _fractions(records):
            own = [r for r in records if (r["policy"], r["fast_fraction"]) == (policy, fraction)]
            if own:
                cells[policy, fraction] = own
    return cells


def _policies(records: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(record["policy"] for record in records))


def _fractions(records: Sequence[Record]) -> list[float]:
    return sorted({record["fast_fraction"] for record in records})


def _grouped(records: Iterable[Record], key: Callable[[Record], str]) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return groups
