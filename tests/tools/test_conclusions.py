"""The conclusion of records: the best policy, baselines, gain and cost of a learned policy."""

import pytest

from tieralloc.tools.conclusions import conclude, learned_gains

COUNTS = {"prefetches_issued": 0, "lookups": 1000, "fast_rows": 50, "fast_fraction": 0.05}


def counted(policy, fetches, **fields):
    counts = {"on_demand_fetches": fetches, "device_reads": fetches, "miss_ratio": fetches / 1000}
    return {**COUNTS, "policy": policy, **counts, **fields}


def served(policy, speed, spread=1.0, fetches=300, **fields):
    quartiles = [speed - spread, speed + spread]
    fields = {"dram_bytes": 1 << 20, "latency_curve_us": [], **fields}
    return counted(
        policy, fetches, rows_per_second=speed, rows_per_second_quartiles=quartiles, **fields
    )


@pytest.mark.parametrize(
    ("records", "text"),
    [
        ([counted("lru", 300)], "lru misses 30% of the lookups"),
        (
            [counted("lru", 300), counted("sieve", 240), counted("opt", 100)],
            "sieve misses 24% of the lookups, 20% fewer than lru; opt, which knows the future, 10%",
        ),
        (
            [counted("lru", 300), counted("clock", 300)],
            "lru misses 30% of the lookups, as many as clock",
        ),
        (
            [counted("lru", 300), counted("recmg", 270, device_reads=330, prefetches_issued=60)],
            "recmg misses 27% of the lookups, 10% fewer than lru (device reads: +10%)",
        ),
        ([served("lru", 500), served("s3fifo", 520)], "s3fifo serves 520 rows/s"),
        (
            [served("lru", 500, 30), served("s3fifo", 520, 30)],
            "s3fifo serves 520 rows/s, lru as many within the quartiles",
        ),
        (
            [
                served("all in DRAM", 10_000, baseline=True),
                served("Python LRU", 50, baseline=True),
                served("lru", 500),
            ],
            "lru serves 500 rows/s: 5% of all in DRAM, 10 times Python LRU",
        ),
        (
            [{**served("none", 1000), "fast_rows": 0, "fast_fraction": 0.0}, served("lru", 1500)],
            "lru serves 1.50k rows/s: 1.5 times no fast tier",
        ),
    ],
)
def test_conclude_names_the_best_policy(records, text):
    assert conclude(records, 0.05) == f"At a fast fraction of 5%, {text}."


def test_conclude_open_loop_names_the_sustained_rates():
    def at(policy, rate, saturated):
        load = {"loop": "open", "offered_rate": rate, "saturated": saturated}
        return counted(policy, 300, latency_us={"p50": 90.0, "p99": 250.0, "max": 999.0}, **load)

    records = [at("lru", 100, False), at("lru", 200, True), at("clock", 150, True)]
    assert conclude(records) == (
        "At a fast fraction of 5%, lru sustains 100 calls/s (p99 0.25 ms), "
        "clock is saturated at 150 calls/s."
    )


def test_learned_gain_has_fetches_reads_speed_dram_and_cpu_time():
    policy = {"cpu_seconds": 0.5, "accesses_observed": 250_000}
    recmg = served("recmg", 480, fetches=270, dram_bytes=3 << 20, policy_stats=policy)
    recmg |= {"device_reads": 330}
    (text,) = learned_gains([served("lru", 500), served("sieve", 400), recmg])
    assert text == (
        "recmg against lru: 10% fewer on-demand fetches, 10% more device reads, 4% fewer rows/s; "
        "it takes 3.0 times the DRAM and 2.0 µs of CPU time per lookup in a thread of its own."
    )


def test_learned_gain_within_the_quartiles_is_no_gain():
    policy = {"cpu_seconds": 0.0, "accesses_observed": 0}
    recmg = served("recmg", 520, 30, policy_stats=policy)
    (text,) = learned_gains([served("lru", 500, 30), recmg], 0.05)
    assert "as many on-demand fetches, as many device reads, as many rows/s within" in text
    assert learned_gains([recmg]) == []
