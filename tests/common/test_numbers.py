"""Sizes: parse_size and format_size."""

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
def test_parse_size_of_bytes_is_unchanged(size):
    assert parse_size(size, "size") == size
    assert parse_size(str(size), "size") == size


@given(
    st.integers(1, 1 << 60),
    st.sampled_from(list(UNITS)),
    st.sampled_from([str, str.lower, str.upper]),
    st.sampled_from(["", " ", "  "]),
)
def test_parse_size_with_unit_in_any_case_is_exact(number, unit, case, space):
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
def test_parse_size_of_decimal_is_exact(text, size):
    assert parse_size(text, "size") == size


@pytest.mark.parametrize("size", [np.int32(7), np.uint64(7)])
def test_parse_size_accepts_numpy_integers(size):
    assert parse_size(size, "size") == 7


@pytest.mark.parametrize(
    "text", ["", "MiB", "-1", "1e3", "64 Mib ytes", "1,5GB", "1.GB", ".5GB", "inf", "nan", "0x10"]
)
def test_parse_size_invalid_string_raises(text):
    message = f"cache: expected bytes, or a size as '64MiB' or '1.5GB', got {text!r}"
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_size(text, "cache")


@pytest.mark.parametrize("size", [0, -5, "0", "0.0GiB", "0.3"])
def test_parse_size_below_one_byte_raises(size):
    message = f"cache: expected at least 1 byte, got {size!r}"
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_size(size, "cache")


@pytest.mark.parametrize("size", [1.5, None, b"1", [1]])
def test_parse_size_other_type_raises(size):
    kind = type(size).__name__
    with pytest.raises(TypeError, match=f"cache: expected int or str, got {kind}"):
        parse_size(size, "cache")


def test_parse_size_of_hundreds_of_digits_is_exact():
    assert parse_size("9" * 400, "size") == int("9" * 400)


@given(st.integers(0, 1 << 60))
def test_format_size_is_parsed_back_to_its_last_digit(size):
    text = format_size(size)
    if size == 0:
        assert text == "0 B"
        return
    number, unit = text.split()
    assert abs(parse_size(text, "size") - size) <= UNITS[unit] / 20 + 1
    assert float(number) < 1024 or unit == "TiB"
