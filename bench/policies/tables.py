"""What was measured, as Markdown: miss ratios, what learning is worth, prefetches, costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bench.policies.contenders import CHECKS, KNOWN, LABELS, LEARNED, OPT
from bench.policies.results import Range, Results, mean
from tieralloc.tools.report import percent

_NOTHING = "-"
_EXPLANATION = (
    "Learned policies are trained on the first half of each trace; figures count the second"
    " half, one access at a time, the fast tier warm from the first. A capacity is a share of"
    " the trace's distinct rows. `bench/README.md` says how to read this."
)


def markdown(
    traces: Sequence[Results],
    notes: Sequence[str],
    refused: Mapping[str, str],
    picture: str | None = None,
) -> str:
    """Lay out everything.

    Parameters
    ----------
    traces : sequence of Results
        In the order to be shown.
    notes : sequence of str
        What to say of the run, a line each.
    refused : mapping of str to str
        What is lacking, and why.
    picture : str, optional
        The file of a plot beside the text.
    """
    parts = ["# Policies on recorded traces", _EXPLANATION, "\n".join(notes)]
    if refused:
        parts.append("\n".join(f"- Not measured: {what}: {why}" for what, why in refused.items()))
    parts += ["## At a glance", _glance(traces)]
    if picture is not None:
        parts.append(f"![On-demand fetches of each policy, beside LRU's]({picture})")
    for results in traces:
        parts += _of_trace(results)
    return "\n\n".join(part for part in parts if part) + "\n"


def _glance(traces: Sequence[Results]) -> str:
    """A line for each learned policy, over all cells of all traces."""
    rows = []
    for policy in _measured(traces, LEARNED):
        cells = [(each, fraction) for each in traces for fraction in each.fractions]
        to_best = [each.to_best_known(policy, fraction) for each, fraction in cells]
        to_lru = [each.to_lru(policy, fraction) for each, fraction in cells]
        closed = [each.gap_closed(policy, fraction) for each, fraction in cells]
        below_opt = [_below(each, policy, OPT, fraction) for each, fraction in cells]
        rows.append(
            [
                policy,
                _count(None if ratio is None else ratio < 1 for ratio in to_best),
                _number(_mean(closed), ".1%"),
                _number(_mean(to_lru), ".3f"),
                _number(_worst(to_lru), ".3f"),
                _number(_worst(to_best), ".3f"),
                _count(below_opt),
            ]
        )
    head = (
        "policy|cells below the best known policy|LRU→OPT gap closed, mean|÷ LRU, mean"
        "|÷ LRU, worst|÷ best known, worst|cells below OPT"
    )
    if not rows:
        return "No learned policy was measured."
    known = [label for label in KNOWN if all(results.of(label) for results in traces)]
    lacking = ", ".join(label for label in KNOWN if label not in known)
    note = f"The best known policy of a cell is the best of {', '.join(known) or 'none'}"
    note += f"; not measured everywhere: {lacking}." if lacking else "."
    return f"{_table(head.split('|'), rows)}\n\n{note}"


def _of_trace(results: Results) -> list[str]:
    first = results.records[0]
    counted = first["lookups"]
    capacities = [percent(fraction) for fraction in results.fractions]
    parts = [
        f"## {results.trace}",
        f"{first['trace_lookups']:,} lookups, {counted:,} of them counted. On-demand fetches ÷"
        " lookups; in bold the fewest of a column, OPT aside:",
        _table(["policy", *capacities], _miss_ratios(results)),
    ]
    gains = _gains(results)
    if gains:
        parts += [
            "What learning is worth; ✓ marks fewer on-demand fetches than those of the best known"
            " policy:",
            _table(["", *capacities, "mean"], gains),
        ]
    ahead = _prefetches(results)
    if ahead:
        head = "policy|capacity|issued an access|useful|late"
        parts += [
            "Prefetches, as shares of those issued:",
            _table(head.split("|"), ahead),
        ]
    head = "policy|training, CPU seconds|CPU µs an access|measured by"
    return [*parts, "What it costs:", _table(head.split("|"), _costs(results)), _checked(results)]


def _miss_ratios(results: Results) -> list[list[str]]:
    shown = [label for label in LABELS if label not in CHECKS.values()]
    fewest = {
        fraction: min(
            (
                ratio
                for label in shown
                if label != OPT and (ratio := results.miss_ratio(label, fraction)) is not None
            ),
            default=None,
        )
        for fraction in results.fractions
    }
    rows = []
    for label in shown:
        cells = []
        for fraction in results.fractions:
            spread = results.range(label, fraction)
            text = _NOTHING if spread is None else _spread(spread)
            is_fewest = spread is not None and label != OPT and spread.median == fewest[fraction]
            cells.append(f"**{text}**" if is_fewest else text)
        rows.append([label, *cells])
    return rows


def _gains(results: Results) -> list[list[str]]:
    rows = []
    policies = _measured([results], LEARNED)
    if policies:
        best = [results.best_known(fraction) for fraction in results.fractions]
        rows.append(["best known policy", *(each or _NOTHING for each in best), ""])
    for policy in policies:
        for what, cell, form in (
            ("÷ LRU", results.to_lru, ".3f"),
            ("÷ best known", results.to_best_known, ".3f"),
            ("gap LRU→OPT closed", results.gap_closed, ".1%"),
        ):
            values = [cell(policy, fraction) for fraction in results.fractions]
            texts = [_number(value, form) for value in values]
            if cell == results.to_best_known:
                texts = [_ticked(value, text) for value, text in zip(values, texts, strict=True)]
            average = mean(cell, policy, results.fractions)
            rows.append([f"{policy} {what}", *texts, _number(average, form)])
    return rows


def _prefetches(results: Results) -> list[list[str]]:
    rows = []
    for label in LABELS:
        for fraction in results.fractions:
            records = results.of(label, fraction)
            issued = sum(record["prefetches_issued"] for record in records)
            if not issued:
                continue
            lookups = sum(record["lookups"] for record in records)
            shares = [
                f"{sum(record[name] for record in records) / issued:.1%}"
                for name in ("prefetches_useful", "prefetches_late")
            ]
            rows.append([label, percent(fraction), f"{issued / lookups:.3f}", *shares])
    return rows


def _costs(results: Results) -> list[list[str]]:
    rows = []
    for label in LABELS:
        records = results.of(label)
        if not records:
            continue
        trained = [
            record["training_cpu_seconds"]
            for record in records
            if record["training_cpu_seconds"] is not None
        ]
        accesses = [record["cpu_us_per_access"] for record in records]
        rows.append(
            [
                label,
                f"{_mean(trained):,.0f}" if trained else _NOTHING,
                f"{_mean(accesses):.3g}",
                records[0]["measured_by"],
            ]
        )
    return rows


def _checked(results: Results) -> str:
    """Say how counts of ours compare with libcachesim's of the same policy."""
    lines = []
    for own in CHECKS:
        found = results.differences(own)
        if found is None:
            continue
        if any(found.values()):
            by = ", ".join(f"{found[at]:+,} at {percent(at)}" for at in results.fractions)
            verdict = f"**differ** by {by}"
        else:
            verdict = "agree to the last one at every capacity"
        lines.append(f"On-demand fetches of {own} here and in libcachesim {verdict}.")
    return "\n".join(lines)


def _measured(traces: Sequence[Results], labels: Sequence[str]) -> list[str]:
    return [label for label in labels if any(results.of(label) for results in traces)]


def _below(results: Results, policy: str, other: str, fraction: float) -> bool | None:
    own, theirs = results.miss_ratio(policy, fraction), results.miss_ratio(other, fraction)
    return None if own is None or theirs is None else own < theirs


def _count(verdicts: Iterable[bool | None]) -> str:
    known = [verdict for verdict in verdicts if verdict is not None]
    return f"{sum(known)} of {len(known)}"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _worst(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _number(value: float | None, form: str) -> str:
    return _NOTHING if value is None else format(value, form)


def _ticked(value: float | None, text: str) -> str:
    return f"{text} ✓" if value is not None and value < 1 else text


def _spread(spread: Range) -> str:
    text = _ratio(spread.median)
    return f"{text} [{_ratio(spread.low)}, {_ratio(spread.high)}]" if spread.seeds > 1 else text


def _ratio(value: float) -> str:
    """Four digits without the nought: .2490, 1.0000."""
    return f"{value:.4f}".removeprefix("0")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
