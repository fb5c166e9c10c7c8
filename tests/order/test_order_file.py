"""Orders: their file, their invalid files, permutations, and pages of a trace's rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from order_support import random_order, seeds
from support import store_of

from tieralloc.order import Order, pages_of_rows
from tieralloc.order.order import order_of
from tieralloc.trace import generate


def arrays_of(**changes):
    return {
        "format": np.array("tieralloc order 1"),
        "table_names": np.array(["item", "user"]),
        "num_embeddings": np.array([10, 4]),
        "rows_per_page": np.array([4, 4]),
        "pages": np.array([2, 0]),
        "page_lengths": np.array([3, 2]),
        "rows": np.array([1, 5, 9, 2, 3]),
    } | changes


@pytest.fixture
def path(tmp_path):
    return tmp_path / "order.npz"


def test_order_read_equals_order_written(path):
    rng = np.random.default_rng(1)
    order = Order({"item": random_order(500, 15, rng), "user": random_order(3, 63, rng)})
    order.write(path)
    read = Order.read(path)
    assert list(read.tables) == ["item", "user"]
    for name, table in order.tables.items():
        found = read.tables[name]
        assert (found.num_embeddings, found.rows_per_page) == (
            table.num_embeddings,
            table.rows_per_page,
        )
        np.testing.assert_array_equal(found.rows, table.rows)
        np.testing.assert_array_equal(found.page_lengths, table.page_lengths)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": np.array([1, 5, 9, 5, 3])}, "table 'item': page 1 has row 5 again"),
        ({"rows": np.array([1, 5, 10, 2, 3])}, "table 'item': page 0 has row 10; expected rows 0"),
        ({"rows": np.array([1, 5, -1, 2, 3])}, "rows: expected at least 0, got -1"),
        ({"rows": np.array([1, 5, 9, 2])}, "rows: expected 5, got 4"),
        ({"rows": np.array([1.0, 5, 9, 2, 3])}, "rows: expected integers of 1 dimension"),
        ({"page_lengths": np.array([5, 0])}, "table 'item': page 0 has 5 rows; expected 1 to 4"),
        ({"pages": np.array([1, 0])}, "page_lengths: expected 1, got 2"),
        ({"pages": np.array([2])}, "pages: expected 2 tables, got 1"),
        ({"table_names": np.array(["item", "item"])}, "table_names: expected each name once"),
        ({"format": np.array("other 1")}, "expected format 'tieralloc order 1', got 'other 1'"),
    ],
)
def test_invalid_file_is_refused_by_its_first_offence(path, changes, message):
    np.savez(path, **arrays_of())
    assert len(Order.read(path).tables) == 2
    np.savez(path, **arrays_of(**changes))
    with pytest.raises(ValueError, match=message) as raised:
        Order.read(path)
    assert str(raised.value).startswith(str(path))


def test_file_of_another_kind_is_refused(path):
    path.write_bytes(b"no order")
    with pytest.raises(ValueError, match=r"invalid order: expected a \.npz file"):
        Order.read(path)
    np.savez(path, rows=np.arange(3))
    with pytest.raises(ValueError, match="invalid order: missing 'format"):
        Order.read(path)
    with pytest.raises(FileNotFoundError):
        Order.read(path.parent / "missing")


def test_pickled_arrays_are_refused(path):
    np.savez(path, **arrays_of(rows=np.array([print], dtype=object)))
    with pytest.raises(ValueError, match="invalid order: Object arrays"):
        Order.read(path)


@given(seeds, st.binary(min_size=1, max_size=4), st.floats(0, 1, exclude_max=True))
def test_changed_bytes_are_refused_or_an_order(tmp_path_factory, seed, change, place):
    path = tmp_path_factory.mktemp("orders") / "order.npz"
    Order({"item": random_order(50, 15, np.random.default_rng(seed))}).write(path)
    data = bytearray(path.read_bytes())
    at = int(place * len(data))
    data[at : at + len(change)] = change
    path.write_bytes(bytes(data))
    try:
        order = Order.read(path)
    except ValueError as error:
        assert str(error).startswith(str(path))  # noqa: PT017
    else:
        for table in order.tables.values():
            assert len(np.unique(table.rows)) == len(table.rows)


@pytest.mark.parametrize(
    ("table", "rows", "dim", "message"),
    [
        ("user", 100, 64, "no order of table 'user'; expected one of 'item'"),
        ("item", 101, 64, "table 'item': is an order of 100 rows; expected one of 101"),
        ("item", 100, 32, "table 'item': is an order of 15 rows per page; expected 31, for dim 32"),
    ],
)
def test_order_of_another_table_is_refused(table, rows, dim, message):
    order = Order({"item": random_order(100, 15, np.random.default_rng(1))}, "day.npz")
    assert order_of(order, "item", 100, 64, "float32").num_rows == len(order.tables["item"].rows)
    with pytest.raises(ValueError, match=f"day.npz: {message}"):
        order_of(order, table, rows, dim, "float32")


@given(seeds, st.integers(1, 200), st.integers(1, 20))
def test_permutation_numbers_each_row_once_and_keeps_full_pages(seed, rows, capacity):
    table = random_order(rows, capacity, np.random.default_rng(seed))
    numbers = table.permutation()
    np.testing.assert_array_equal(np.sort(numbers), np.arange(rows))
    ends = np.cumsum(table.page_lengths).astype(int)
    for begin, end in zip([0, *ends], ends, strict=False):
        if end - begin == capacity:
            assert len(np.unique(numbers[table.rows[begin:end].astype(int)] // capacity)) == 1


@given(seeds, st.integers(1, 70))
def test_pages_of_rows_equal_those_of_a_file(tmp_path_factory, seed, rows):
    rng = np.random.default_rng(seed)
    order = Order({"item": random_order(rows, 15, rng), "user": random_order(40, 15, rng)})
    trace = generate(num_tables=2, num_samples=2)
    trace = type(trace).from_lengths([0, 0], [[1], [1]], ["item", "user"], [rows, 40], trace.name)
    pages = pages_of_rows(trace, 15, order)
    path = tmp_path_factory.mktemp("orders") / "f.tier"
    with store_of(path, fast_rows=8) as store:
        first, numbers = 0, []
        for name, table in order.tables.items():
            store.create_table(name, table.num_embeddings, 64, order=order)
            position = store.table(name).position
            for page in range(store._core.pages(position)[0]):
                members = store._core.rows_of_page(position, page).astype(int)
                (number,) = set(pages[first + members].tolist())
                numbers.append(number)
            first += table.num_embeddings
    assert len(set(numbers)) == len(numbers)
