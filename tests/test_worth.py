"""What a learned policy saves beside what it costs, and how long it rests."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieralloc import _worth
from tieralloc._worth import (
    LEAST_PRICE,
    LONGEST_REST,
    SHORTEST_REST,
    WINDOW,
    Usage,
    Worth,
    time_of_this_thread,
)

SECONDS = st.floats(0, 100)


def used(lookups=0, waited=0.0, cpu=0.0, queued=0.0):
    return Usage(lookups, 0, waited, cpu, queued)


NOTHING = used()


def learned(at):
    """Return one that has had its first window, whatever that was."""
    worth = Worth()
    worth.begin(used(cpu=-1000.0))
    assert worth.judge(at, -1.0) == 0
    return worth


def judged(waited, cpu, queued, avoided, began=NOTHING):
    worth = learned(began)
    return worth, worth.judge(used(1000, waited, cpu, queued), avoided)


@given(waited=SECONDS, cpu=SECONDS, queued=SECONDS, avoided=st.floats(-1, 1))
def test_it_rests_where_what_it_saves_is_not_worth_what_it_takes(waited, cpu, queued, avoided):
    worth, rest = judged(waited, cpu, queued, avoided)
    found = worth.figures()
    assert found["saved_seconds"] == waited * max(0, avoided)
    assert found["cpu_seconds"] == cpu
    assert LEAST_PRICE <= found["cpu_price"] <= 1
    pays = found["saved_seconds"] >= cpu * found["cpu_price"]
    assert rest == (0 if pays else 1000 * SHORTEST_REST)
    assert found["rests"] == (not pays)


def test_a_core_that_is_fought_for_makes_it_dear():
    prices = [
        judged(1.0, 2.0, queued, 0.1)[0].figures()["cpu_price"] for queued in (0, 1, 2, 20, None)
    ]
    assert prices == [LEAST_PRICE, (1 + LEAST_PRICE) / 2, 1, 1, 1]


def test_a_window_is_full_after_so_many_accesses_of_the_sample():
    worth = Worth()
    worth.begin(Usage(0, 500, 0.0, 0.0, 0.0))
    assert not worth.is_due(500 + WINDOW - 1)
    assert worth.is_due(500 + WINDOW)
    worth.judge(Usage(10, 600 + WINDOW, 0.0, 0.0, 0.0), 1.0)
    assert not worth.is_due(600 + 2 * WINDOW - 1)
    assert worth.is_due(600 + 2 * WINDOW)


@given(windows=st.integers(1, 30))
def test_a_policy_that_never_pays_works_a_small_share_of_the_lookups(windows):
    worth = Worth()
    now = NOTHING
    worked = rested = 0
    for _ in range(windows):
        worth.begin(now)
        rest = 0
        while not rest:
            end = used(now.lookups + 1000, now.waited + 1, now.cpu + 1)
            rest = worth.judge(end, 0.01)
            worked += 1000
            now = end
        rested += rest
        now = used(end.lookups + rest, end.waited + 10, end.cpu)
        assert 1000 * SHORTEST_REST <= rest <= 1000 * LONGEST_REST
    assert worked == 2000 * windows
    assert rested >= SHORTEST_REST / 2 * worked
    assert windows < 30 or rested > LONGEST_REST / 4 * worked


def test_one_that_pays_again_is_soon_tried_again():
    worth = Worth()
    rests = []
    for number, avoided in enumerate((0, 0, 0, 0.9, 0)):
        worth.begin(used(2000 * number, 20.0 * number, 2.0 * number))
        for windows in (2 * number + 1, 2 * number + 2):
            rest = worth.judge(used(1000 * windows, 10.0 * windows, float(windows)), avoided)
            assert windows % 2 == 0 or rest == 0
        rests.append(rest / 1000)
    assert rests == [SHORTEST_REST, 2 * SHORTEST_REST, 4 * SHORTEST_REST, 0, SHORTEST_REST]


@pytest.mark.parametrize("began", [used(5000), used(10, 3.0)])
def test_counts_that_began_anew_say_nothing(began):
    _, rest = judged(1.0, 100.0, 0.0, 0.0, began=began)
    assert rest == 0


def test_where_the_kernel_does_not_tell_who_waits_nothing_is_made_up(monkeypatch):
    monkeypatch.setattr(_worth, "_SCHEDSTAT", Path("/proc/no such file"))
    assert time_of_this_thread()[1] is None


def test_time_of_this_thread_is_counted():
    cpu, queued = time_of_this_thread()
    sum(range(200_000))
    later, queued_later = time_of_this_thread()
    assert later > cpu
    assert queued is None or queued_later >= queued
