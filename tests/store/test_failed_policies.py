"""A learned policy whose Python function raises: failed, with its reason; the store serves on."""

import time

import numpy as np
import pytest

from tieralloc._bindings import ExternalModel, LearnedModel, Network, row_feature_names

ROWS = 5000


class WordlessError(Exception):
    def __str__(self):
        raise LookupError("no text")


class Unusual(BaseException):
    pass


ERRORS = {
    "error": (ValueError("plain"), "ValueError: plain"),
    "exit": (SystemExit(3), "SystemExit: 3"),
    "exit without status": (SystemExit(), "SystemExit: "),
    "base exception": (Unusual("odd"), "Unusual: odd"),
    "no text": (WordlessError(), "WordlessError: (its text raises LookupError)"),
    "surrogate": (ValueError("a\ud800b"), "ValueError: a\\ud800b"),
}


def external(function):
    return ExternalModel(function, chunk=15, eviction_speed=4)


def network(function):
    caching = Network(function, features=len(row_feature_names()), outputs=2)
    return LearnedModel(
        caching, intervals=[100, 1000], horizons=[100], eviction_ages=[(200, 1000.0)]
    )


def serve_until_failed(store, model):
    """Serve lookups until the planner thread stops running; return its statistics."""
    table = store.create_table("item", ROWS, 4)
    table.lookup([0])
    store._core.use_planned(
        model,
        "lru",
        pauses=False,
        in_background=True,
        max_bytes=0,
        prefetch_cost=0.02,
        selects=True,
    )
    rows = np.random.default_rng(0)
    stats = store._core.policy_stats()
    deadline = time.monotonic() + 60
    while stats["state"] == "running" and time.monotonic() < deadline:
        table.lookup(rows.integers(0, ROWS, 2000))
        stats = store._core.policy_stats()
    assert not table.lookup([3]).any()
    return stats


@pytest.mark.parametrize("make_model", [external, network])
@pytest.mark.parametrize(("error", "reason"), ERRORS.values(), ids=ERRORS)
def test_policy_that_raises_counts_as_failed(make_store, make_model, error, reason):
    def fail(_):
        raise error

    stats = serve_until_failed(make_store(fast_rows=200), make_model(fail))
    assert (stats["state"], stats["reason"]) == ("failed", reason)


@pytest.mark.parametrize("make_model", [external, network])
def test_interrupt_in_policy_reaches_main_thread(make_store, make_model):
    def interrupt(_):
        raise KeyboardInterrupt

    def serve():
        serve_until_failed(store, make_model(interrupt))
        time.sleep(10)  # the signal comes between two calls

    store = make_store(fast_rows=200)
    with pytest.raises(KeyboardInterrupt):
        serve()
    deadline = time.monotonic() + 60
    while store._core.policy_stats()["state"] == "running" and time.monotonic() < deadline:
        time.sleep(0.001)
    stats = store._core.policy_stats()
    assert (stats["state"], stats["reason"]) == ("failed", "KeyboardInterrupt: ")
