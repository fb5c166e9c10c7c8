"""Files of resident rows: written and read, refused when damaged or of other tables."""

import json
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from tieralloc.restart.resident_set import ResidentSet, rows_of

TABLES = [("user", 100), ("item", 50)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    rows=st_numpy.arrays(np.uint64, st.integers(0, 50)),
    store_id=st.integers(0, 2**64 - 1),
    names=st.lists(st.text(min_size=1), max_size=3),
)
def test_written_set_is_read_back(tmp_path, rows, store_id, names):
    written = ResidentSet([(name, 5) for name in names], rows, store_id)
    written.write(tmp_path / "a.warm")
    read = ResidentSet.read(tmp_path / "a.warm")
    assert (read.tables, read.store_id) == (written.tables, store_id)
    np.testing.assert_array_equal(read.rows, rows)


def test_any_flipped_byte_is_refused_or_harmless(tmp_path):
    path = tmp_path / "a.warm"
    written = ResidentSet(TABLES, np.arange(20, dtype=np.uint64), 7)
    written.write(path)
    whole = path.read_bytes()
    refused = 0
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            read = ResidentSet.read(path)
        except ValueError as error:
            refused += str(path) in str(error)
        else:
            np.testing.assert_array_equal(read.rows, written.rows)
    assert refused > len(whole) / 2


@pytest.mark.parametrize("size", [0, 1, 50, 200])
def test_truncated_file_is_refused(tmp_path, size):
    path = tmp_path / "a.warm"
    ResidentSet(TABLES, np.arange(20, dtype=np.uint64)).write(path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"a\.warm: invalid file of resident rows"):
        ResidentSet.read(path)


def test_first_version_is_read(tmp_path):
    path = tmp_path / "a.warm"
    ResidentSet(TABLES, np.arange(20, dtype=np.uint64), 7).write(path)
    with zipfile.ZipFile(path) as archive:
        about, rows = json.loads(archive.read("about.json")), archive.read("rows")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("about.json", json.dumps({**about, "version": 1}))
        archive.writestr("rows", rows)
    np.testing.assert_array_equal(ResidentSet.read(path).rows, np.arange(20))


def test_newer_version_and_inflated_member_are_refused(tmp_path):
    path = tmp_path / "a.warm"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("about.json", json.dumps({"version": 3, "store_id": 0, "tables": []}))
        archive.writestr("rows", b"")
    with pytest.raises(ValueError, match="version: expected 1 or 2, got 3"):
        ResidentSet.read(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("about.json", json.dumps({"version": 1, "store_id": 0, "tables": []}))
        archive.writestr("rows", bytes(1 << 20))
    with pytest.raises(ValueError, match="rows: expected at most"):
        ResidentSet.read(path)


def test_check_names_the_first_difference():
    resident = ResidentSet(TABLES, np.empty(0, np.uint64), 7)
    resident.check(TABLES, 7)
    with pytest.raises(ValueError, match="another version"):
        resident.check(TABLES, 8)
    with pytest.raises(ValueError, match="table 1: expected"):
        resident.check([("user", 100), ("item", 51)], 7)
    with pytest.raises(ValueError, match="expected 3 tables, got 2"):
        resident.check([*TABLES, ("more", 1)], 7)
    ResidentSet(TABLES, np.empty(0, np.uint64)).check(TABLES, 8)  # of any file


def test_rows_of_mapping_are_numbered_table_after_table():
    rows = rows_of({"item": [3, 0], "user": np.array([99], np.int32)}, TABLES)
    assert rows.tolist() == [103, 100, 99]
    assert rows_of({}, TABLES).dtype == np.uint64
    assert rows_of({"user": []}, TABLES).tolist() == []


@pytest.mark.parametrize(
    ("rows", "error", "text"),
    [
        ({"other": [1]}, KeyError, "expected one of user, item"),
        ({"item": [3, 50]}, IndexError, "expected 0 to 49, got 50"),
        ({"item": [-1]}, IndexError, "expected 0 to 49, got -1"),
        ({"item": [0.5]}, TypeError, "expected .* integers, got .* float64"),
        ({"item": [[1]]}, TypeError, r"got \(1, 1\)"),
    ],
)
def test_rows_of_bad_mapping_raises(rows, error, text):
    with pytest.raises(error, match=text):
        rows_of(rows, TABLES)
