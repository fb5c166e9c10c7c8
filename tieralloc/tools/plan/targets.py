"""Targets of a plan, and the cheapest budget that meets them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from tieralloc._common.numbers import format_size, parse_size

__all__ = ["Choice", "Target"]

Record: TypeAlias = Mapping[str, Any]
Kind: TypeAlias = Literal["p50", "p99", "miss-ratio", "dram"]

_KINDS: tuple[Kind, ...] = get_args(Kind)
_EXAMPLES = "p99=2ms, p50=500us, miss-ratio=0.1 or dram=8GiB"
_US = {"us": 1.0, "µs": 1.0, "ms": 1e3, "s": 1e6}


@dataclass(frozen=True)
class Target:
    """An upper limit of a figure: µs, a ratio, or bytes."""

    kind: Kind
    limit: float
    text: str  # as given

    @classmethod
    def parse(cls, text: str) -> Target:
        """Return the target of ``KIND=LIMIT``; ValueError for an invalid one."""
        kind, _, limit = text.partition("=")
        kind, limit = kind.strip().replace("_", "-"), limit.strip()
        for known in _KINDS:
            if kind == known:
                return cls(known, _limit(known, limit), f"{known}={limit}")
        raise ValueError(f"target: expected {_EXAMPLES}, got {text!r}")

    def value(self, record: Record) -> float | None:
        """Return the figure of a record; None for a latency of a saturated caller."""
        if self.kind == "miss-ratio":
            return float(record["miss_ratio"])
        if self.kind == "dram":
            return float(record["dram_bytes"])
        value = record["latency_us"][self.kind]
        return None if value is None else float(value)

    def is_met(self, record: Record) -> bool:
        """Whether a record is within the limit."""
        value = self.value(record)
        return value is not None and value <= self.limit

    def format(self, value: float) -> str:
        """Return a figure with its unit."""
        if self.kind == "miss-ratio":
            return f"{value:.4f}"
        return format_size(value) if self.kind == "dram" else duration(value)


def _limit(kind: Kind, text: str) -> float:
    if kind == "dram":
        return parse_size(text, "target dram")
    pattern = r"(\d*\.?\d+)" if kind == "miss-ratio" else r"(\d*\.?\d+)\s*(us|µs|ms|s)"
    match = re.fullmatch(pattern, text)
    limit = float(match[1]) * (_US[match[2]] if match.lastindex == 2 else 1) if match else 0.0
    if not limit > 0 or (kind == "miss-ratio" and limit > 1):
        expected = (
            "above 0 and at most 1" if kind == "miss-ratio" else "a time such as 2ms or 500us"
        )
        raise ValueError(f"target {kind}: expected {expected}, got {text!r}")
    return limit


def duration(microseconds: float) -> str:
    """Return a time with three digits: ``640 µs``, ``2.13 ms``."""
    if microseconds < 999.5:
        return f"{microseconds:.3g} µs"
    return (
        f"{microseconds / 1e3:.3g} ms" if microseconds < 999.5e3 else f"{microseconds / 1e6:.3g} s"
    )


def needs(targets: Sequence[Target]) -> list[Target]:
    """Return the targets other than DRAM."""
    return [target for target in targets if target.kind != "dram"]


def are_met(targets: Sequence[Target], record: Record) -> bool:
    """Whether a record meets all targets."""
    return all(target.is_met(record) for target in targets)


class Choice(NamedTuple):
    """The recommended record, or the reasons why none meets the targets."""

    record: Record | None
    reasons: list[str]


def choose(records: Sequence[Record], targets: Sequence[Target]) -> Choice:
    """Return the record that meets all targets with the least DRAM; without targets, none.

    If DRAM is the only target: the record within it with the lowest miss ratio.
    """
    if not targets:
        return Choice(None, [])
    meeting = [record for record in records if are_met(targets, record)]
    if not meeting:
        return Choice(None, _reasons(records, targets))
    if needs(targets):
        return Choice(min(meeting, key=lambda r: (r["dram_bytes"], r["miss_ratio"])), [])
    return Choice(min(meeting, key=lambda r: (r["miss_ratio"], r["dram_bytes"])), [])


def _reasons(records: Sequence[Record], targets: Sequence[Target]) -> list[str]:
    """Return a sentence for each target that no budget meets, or that the DRAM excludes."""
    others = needs(targets)
    unreachable = [t for t in others if not any(t.is_met(record) for record in records)]
    if unreachable:
        return [_unreachable(target, records) for target in unreachable]
    enough = [record for record in records if are_met(others, record)]
    if not enough:
        names = " and ".join(target.text for target in others)
        return [f"each of {names} can be met, but not with one policy and budget"]
    dram = min((t for t in targets if t.kind == "dram"), key=lambda target: target.limit)
    least = min(enough, key=lambda record: record["dram_bytes"])
    need = f"{format_size(least['dram_bytes'])} with {least['policy']}"
    if not others:
        return [f"{dram.text}: below the smallest planned budget, {need}"]
    names = " and ".join(target.text for target in others)
    return [f"{dram.text} is the bound: {names} needs {need}"]


def _unreachable(target: Target, records: Sequence[Record]) -> str:
    known = [record for record in records if target.value(record) is not None]
    if not known:
        least = min(record["utilisation"] for record in records)
        return (
            f"{target.text}: the rate is the bound; one caller would have to serve {least:.2f} "
            "seconds of calls per second at best"
        )
    best = min(known, key=lambda record: target.value(record) or 0.0)
    value = target.format(target.value(best) or 0.0)
    text = f"{target.text}: {value} at best, with {best['policy']} and "
    text += format_size(best["dram_bytes"])
    if best["fast_fraction"] < 1:
        return f"{text}, the largest planned budget or near it"
    if target.kind == "miss-ratio":
        return f"{text}, all rows of the trace; first accesses to rows are the bound"
    reads = best["on_demand_reads_per_request"]
    if reads >= 0.05:
        return (
            f"{text}, all rows of the trace; first accesses to rows are the bound, "
            f"{reads:.3g} device reads per request"
        )
    return f"{text}, all rows of the trace; the time of hits is the bound"
