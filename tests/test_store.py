"""Stores made and given tables: options, names, sizes, and what is refused."""

import os

import pytest
from support import path_of


@pytest.mark.parametrize("reserve", [True, False])
@pytest.mark.parametrize(
    ("rows", "dim"), [(1 << 48, 1 << 18), (1 << 48, 1 << 20), ((1 << 48) - 1, 1 << 16)]
)
def test_a_table_too_large_to_address_is_refused(make_store, rows, dim, reserve):
    store = make_store(reserve=reserve)
    size = os.stat(path_of(store)).st_size
    with pytest.raises(ValueError, match=r"table 'vast': expected at most 2\*\*62 bytes, got "):
        store.create_table("vast", rows, dim)
    assert not store.tables
    assert os.stat(path_of(store)).st_size == size
