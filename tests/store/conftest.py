"""Fixtures of the tests of stores."""

import pytest
from support import numbered_rows, path_of


@pytest.fixture
def closed_path(make_store):
    """Return the path of a closed store with a table `item` of 1000 x 4."""
    store = make_store()
    store.create_table("item", 1000, 4).load(numbered_rows(1000, 4))
    path = path_of(store)
    store.close()
    return path
