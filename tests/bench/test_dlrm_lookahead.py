"""Each queued request is fetched ahead once, and none that is further off than looked at."""

from hypothesis import given
from hypothesis import strategies as st

from bench.dlrm.lookahead import Lookahead

events = st.lists(st.tuples(st.booleans(), st.integers(0, 20)), max_size=30)


@given(events, st.integers(0, 5), st.integers(0, 5), st.integers(0, 20))
def test_requests_are_fetched_once_in_order_while_they_wait(events, ahead, first, count):
    fetched = []
    served, arrived, end = first, first, first + count
    lookahead = Lookahead(fetched.append, ahead, first, end)
    for is_arrival, number in events:
        before = len(fetched)
        if is_arrival:
            arrived = max(arrived, number)
            lookahead.arrived(number)
        else:
            served = max(served, number)
            lookahead.serving(number)
        for new in fetched[before:]:
            assert served < new <= served + ahead
            assert new < min(arrived, end)
    assert fetched == sorted(set(fetched))


@given(st.integers(1, 5), st.integers(1, 30))
def test_of_a_full_queue_all_but_the_first_are_fetched_before_they_are_served(ahead, count):
    fetched = []
    lookahead = Lookahead(fetched.append, ahead, 0, count)
    lookahead.arrived(count)
    for number in range(count):
        lookahead.serving(number)
        assert set(range(1, min(count, number + ahead + 1))) == set(fetched)


def test_without_looking_ahead_nothing_is_fetched():
    fetched = []
    lookahead = Lookahead(fetched.append, 0, 0, 9)
    lookahead.arrived(9)
    for number in range(9):
        lookahead.serving(number)
    assert fetched == []
