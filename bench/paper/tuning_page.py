"""bench/results/paper-tuning: the settings of the baselines that tuning tried."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tieralloc.policies.baselines.registry import baseline_names, make_baselines
from tieralloc.policies.baselines.tuning import defaults

from tieralloc.tools.report import percent

Record = dict[str, Any]

_READING = """\
Each setting in turn was set to each of its values, the others staying as they were, twice over; the
values that missed least on the last fifth of the training half were taken. The first value of a
setting is where it began: what the paper has, where it says. `paper-tuning.json` has every set of
settings that was tried, and its miss ratio there."""


#: Baseline, trace, caching, fast fraction and lag.
Key = tuple[str, str, str, float, int]


def by_cell(tried: Sequence[Record]) -> dict[Key, list[Record]]:
    """Sort what was tried by what it was tried for, each in the order tried."""
    names = ("prefetching", "trace", "caching", "fast_fraction", "prefetch_lag")
    cells: dict[Key, list[Record]] = {}
    for each in tried:
        cells.setdefault(tuple(each[name] for name in names), []).append(each)
    return cells


def to_json(tried: Sequence[Record]) -> str:
    """Return what was tried as JSON: of each cell a line, of each try its values and miss ratio."""
    baselines = make_baselines(baseline_names())
    lines = []
    for (prefetching, trace, caching, fraction, lag), each in by_cell(tried).items():
        names = list(baselines[prefetching].choices)
        cell = {
            "prefetching": prefetching,
            "trace": trace,
            "caching": caching,
            "fast_fraction": fraction,
            "prefetch_lag": lag,
            "settings": names,
            "tried": [[*(t["settings"][name] for name in names), t["miss_ratio"]] for t in each],
        }
        lines.append(json.dumps(cell, separators=(",", ":")))
    return "[\n" + ",\n".join(lines) + "\n]\n"


def markdown(tried: Sequence[Record]) -> str:
    """Lay out which settings were chosen in each cell, and what tuning gained there."""
    cells = by_cell(tried)
    parts = ["# How the baselines were tuned", _READING]
    for name, baseline in make_baselines(baseline_names()).items():
        values = "; ".join(
            f"{setting}: {', '.join(map(str, tried_values))}"
            for setting, tried_values in baseline.choices.items()
        )
        parts += [f"## {name}", f"Values: {values}."]
        begin = defaults(baseline)
        lines = [
            "| trace | caching | fast | tried | at first | best | settings |",
            "|" + " --- |" * 7,
        ]
        for (prefetching, trace, caching, fraction, lag), each in cells.items():
            if prefetching != name:
                continue
            best = min(each, key=lambda t: float(t["miss_ratio"]))
            changed = {k: v for k, v in best["settings"].items() if v != begin[k]}
            text = ", ".join(f"{k} {v}" for k, v in changed.items()) or "as at first"
            fast = percent(fraction) + (f", lag {lag}" if lag else "")
            lines.append(
                f"| {trace} | {caching} | {fast} | {len(each)} |"
                f" {each[0]['miss_ratio']:.4f} | {best['miss_ratio']:.4f} | {text} |"
            )
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"
