"""Sizes as people write them."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieralloc._common.numbers import format_size, parse_size

UNITS = {
    "": 1,
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}


@given(st.integers(1, 1 << 80))
def test_a_number_of_bytes_is_itself(size):
    assert parse_size(size, "size") == size
    assert parse_size(str(size), "size") == size


@given(
    st.integers(1, 1 << 60),
    st.sampled_from(list(UNITS)),
    st.sampled_from([str, str.lower, str.upper]),
    st.sampled_from(["", " ", "  "]),
)
def test_units_are_exact_whatever_their_case(number, unit, case, space):
    text = f"{space}{number}{space}{case(unit)}{space}"
    assert parse_size(text, "size") == number * UNITS[unit]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1.5GB", 1_500_000_000),
        ("0.5 KiB", 512),
        ("1.0000000001 TB", 1_000_000_000_100),
        ("9007199254740993.0", 9007199254740993),
        ("0.29kB", 290),
    ],
)
def test_a_decimal_is_taken_as_it_is_written(text, size):
    assert parse_size(text, "size") == size


@pytest.mark.parametrize("size", [np.int32(7), np.uint64(7)])
def test_integers_of_numpy_are_integers(size):
    assert parse_size(size, "size") == 7


@pytest.mark.parametrize(
    "text", ["", "MiB", "-1", "1e3", "64 Mib ytes", "1,5GB", "1.GB", ".5GB", "inf", "nan", "0x10"]
)
def test_what_is_no_size_is_refused_by_name(text):
    with pytest.raises(ValueError, match=re.escape(f"cache is {text!r}, expected bytes or a size")):
        parse_size(text, "cache")


@pytest.mark.parametrize("size", [0, -5, "0", "0.0GiB", "0.3"])
def test_nothing_is_no_size(size):
    with pytest.raises(ValueError, match=re.escape(f"cache is {size!r}, expected above zero")):
        parse_size(size, "cache")


@pytest.mark.parametrize("size", [1.5, None, b"1", [1]])
def test_other_types_are_refused_by_name(size):
    kind = type(size).__name__
    with pytest.raises(TypeError, match=f"cache is of type {kind}, expected int or str"):
        parse_size(size, "cache")


def test_a_size_of_hundreds_of_digits_is_a_number_like_any_other():
    assert parse_size("9" * 400, "size") == int("9" * 400)


@given(st.integers(0, 1 << 60))
def test_what_is_written_reads_back_to_its_last_digit(size):
    text = format_size(size)
    if size == 0:
        assert text == "0 B"
        return
    number, unit = text.split()
    assert abs(parse_size(text, "size") - size) <= UNITS[unit] / 20 + 1
    assert float(number) < 1024 or unit == "TiB"
