"""The binding of training samples; tests/core compares them with the accesses."""

import numpy as np
import pytest

from tieralloc._bindings import MAX_CONTEXTS, draw_row_samples

STARTS = [0, 5, 12]


def uint64(values):
    return np.array(values, dtype=np.uint64)


def draw(accesses, lengths=None, **options):
    lengths = [len(accesses)] if lengths is None else lengths
    options = {"remembered": 1000, "first": 0, "count": 30, **options}
    return draw_row_samples(uint64(accesses), lengths, STARTS, **options)


def test_samples_depend_on_seed_only():
    accesses = list(range(12)) * 20
    one, same, other = (draw(accesses, count=200, seed=seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not np.array_equal(one[2], other[2])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"first": 3}, ValueError, "first: expected below 3, got 3"),
        ({"remembered": 0}, ValueError, "remembered: expected at least 1"),
        ({"contexts": [2]}, ValueError, "contexts: expected tables below 2, got 2"),
        ({"contexts": [0] * (MAX_CONTEXTS + 1)}, ValueError, "contexts: expected at most"),
        ({"lengths": [1]}, ValueError, "1.*3|3.*1"),
        ({"accesses": [0, 1, 12]}, IndexError, "12"),
    ],
)
def test_draw_invalid_arguments_raises(options, error, message):
    with pytest.raises(error, match=message):
        draw(**{"accesses": [0, 1, 2], **options})
