"""Targets: their parser, the cheapest record that meets them, and the bound if none does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieralloc.tools.plan.targets import Target, choose

MIB = 1 << 20


@pytest.mark.parametrize(
    ("text", "kind", "limit"),
    [
        ("p99=2ms", "p99", 2000),
        ("p50=500us", "p50", 500),
        ("p50=.5 ms", "p50", 500),
        ("p99=1.5s", "p99", 1.5e6),
        ("p99=80µs", "p99", 80),
        ("miss-ratio=.1", "miss-ratio", 0.1),
        ("miss_ratio=1", "miss-ratio", 1),
        ("dram=8GiB", "dram", 8 << 30),
        ("dram=1.5GB", "dram", 1.5e9),
    ],
)
def test_parse_returns_kind_and_limit(text, kind, limit):
    target = Target.parse(text)
    assert (target.kind, target.limit) == (kind, pytest.approx(limit))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("p99", "target p99: expected a time"),
        ("p99=2", "expected a time such as 2ms or 500us, got '2'"),
        ("p50=0ms", "expected a time"),
        ("p50=-1ms", "expected a time"),
        ("miss-ratio=0", "expected above 0 and at most 1, got '0'"),
        ("miss-ratio=1.1", "expected above 0 and at most 1, got '1.1'"),
        ("miss-ratio=nan", "expected above 0 and at most 1"),
        ("dram=lots", "target dram: expected bytes"),
        ("p95=1ms", "target: expected p99=2ms, p50=500us, miss-ratio=0.1 or dram=8GiB, got"),
        ("", "target: expected p99=2ms"),
    ],
)
def test_parse_of_an_invalid_target_raises(text, message):
    with pytest.raises(ValueError, match=message):
        Target.parse(text)


def record(dram, miss_ratio, p50=100.0, p99=200.0, **others):
    return {
        **{"policy": "lru", "fast_fraction": 0.5, "dram_bytes": dram, "miss_ratio": miss_ratio},
        **{"latency_us": {"p50": p50, "p99": p99}, "utilisation": 0.1},
        **{"on_demand_reads_per_request": 0.0, **others},
    }


RECORDS = st.lists(
    st.builds(
        record,
        st.integers(1, 8),
        st.integers(1, 8).map(lambda n: n / 10),
        *[st.none() | st.integers(1, 8).map(float)] * 2,
    ),
    min_size=1,
    max_size=12,
)
LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "p50": st.integers(1, 8),
        "p99": st.integers(1, 8),
        "miss-ratio": st.integers(1, 8).map(lambda n: n / 10),
        "dram": st.integers(1, 8),
    },
)


@given(RECORDS, LIMITS)
def test_choose_matches_brute_force(records, limits):
    units = {"p50": "us", "p99": "us", "miss-ratio": "", "dram": "B"}
    targets = [Target.parse(f"{kind}={limit}{units[kind]}") for kind, limit in limits.items()]
    choice = choose(records, targets)

    def is_within(each):
        known = {
            **{"dram": each["dram_bytes"], "miss-ratio": each["miss_ratio"]},
            **each["latency_us"],
        }
        return all(known[kind] is not None and known[kind] <= limits[kind] for kind in limits)

    within = [each for each in records if is_within(each)]
    if not limits or not within:
        assert choice.record is None
        assert bool(choice.reasons) == bool(limits)
        return
    assert choice.reasons == []
    assert choice.record in within
    figure = "miss_ratio" if list(limits) == ["dram"] else "dram_bytes"
    assert choice.record[figure] == min(each[figure] for each in within)


@pytest.mark.parametrize(
    ("targets", "records", "reasons"),
    [
        (
            ["p99=100us", "dram=1MiB"],
            [record(MIB, 0.4, 90, 900), record(3 * MIB, 0.1, 20, 90)],
            ["dram=1MiB is the bound: p99=100us needs 3.0 MiB with lru"],
        ),
        (
            ["dram=1KiB"],
            [record(MIB, 0.4), record(2 * MIB, 0.1)],
            ["dram=1KiB: below the smallest planned budget, 1.0 MiB with lru"],
        ),
        (
            ["miss-ratio=.05", "dram=1GiB"],
            [record(MIB, 0.4), record(2 * MIB, 0.1, fast_fraction=1.0)],
            [
                "miss-ratio=.05: 0.1000 at best, with lru and 2.0 MiB, all rows of the trace; first"
                " accesses to rows are the bound"
            ],
        ),
        (
            ["p50=10us"],
            [record(MIB, 0.4, 80), record(2 * MIB, 0.1, 20, 90, fast_fraction=1.0)],
            [
                "p50=10us: 20 µs at best, with lru and 2.0 MiB, all rows of the trace; the time of"
                " hits is the bound"
            ],
        ),
        (
            ["p50=10us"],
            [record(MIB, 0.1, 20, fast_fraction=1.0, on_demand_reads_per_request=33.4)],
            [
                "p50=10us: 20 µs at best, with lru and 1.0 MiB, all rows of the trace; first"
                " accesses to rows are the bound, 33.4 device reads per request"
            ],
        ),
        (
            ["p99=1ms", "miss-ratio=.5"],
            [record(MIB, 0.4, None, None, utilisation=1.3)],
            [
                "p99=1ms: the rate is the bound; one caller would have to serve 1.30 seconds of"
                " calls per second at best"
            ],
        ),
        (
            ["p50=50us", "miss-ratio=.2"],
            [record(MIB, 0.4, 40), record(2 * MIB, 0.1, 60)],
            ["each of p50=50us and miss-ratio=.2 can be met, but not with one policy and budget"],
        ),
    ],
)
def test_choose_names_the_bound_that_excludes_all(targets, records, reasons):
    assert choose(records, [Target.parse(each) for each in targets]) == (None, reasons)
