"""Policy directories: written atomically, read back unchanged, checked against their use."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as any_arrays

from tieralloc.policy.directory import (
    Capacity,
    FeatureSpec,
    Manifest,
    TrainingTrace,
    fingerprint,
    read_policy,
    write_policy,
)

FEATURES = FeatureSpec("gaps", 2, 7)
MANIFEST = Manifest(
    policy="recmg",
    features=FEATURES,
    tables=[("item", 100), ("user", 20)],
    trace=TrainingTrace("day", "ab" * 32, 5000),
    capacities=[Capacity(0.05, 6), Capacity(0.1, 12)],
    seed=3,
    settings={"chunk": 15},
    metrics={"miss_ratio": 0.25},
)
MODELS = {"caching-5": b"one", "prefetch": b"two"}
ARRAYS = {"order": np.arange(5), "names": np.array(["a", "b"])}


@pytest.fixture
def written(tmp_path):
    write_policy(tmp_path / "policy", MANIFEST, MODELS, ARRAYS)
    return tmp_path / "policy"


def edit(directory, **changes):
    path = directory / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_read_policy_returns_written_policy(written):
    policy = read_policy(written)
    assert policy.manifest == MANIFEST
    assert policy.models == MODELS
    assert policy.arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert policy.arrays[name].tolist() == array.tolist()
    policy.check_fits("recmg", FEATURES)
    policy.check_tables([("item", 100), ("user", 20)])


def test_write_policy_replaces_only_files_of_old_policy(written):
    (written / "notes.txt").write_text("mine")
    write_policy(written, replace(MANIFEST, seed=4), {"caching-5": b"three"}, {})
    policy = read_policy(written)
    assert (policy.manifest.seed, policy.models) == (4, {"caching-5": b"three"})
    assert len(list(written.iterdir())) == 4  # the manifest, a model, the arrays, the notes


def test_write_policy_invalid_argument_keeps_old_policy(written, monkeypatch):
    before = sorted(path.name for path in written.iterdir())
    with pytest.raises(ValueError, match="Out of range float"):
        write_policy(written, replace(MANIFEST, metrics={"x": float("nan")}), {}, {})
    with pytest.raises(ValueError, match="'bad': expected numbers or strings, got objects"):
        write_policy(written, MANIFEST, {}, {"bad": np.array([{}])})
    with pytest.raises(ValueError, match=r"models: expected names .* got '\.\./up'"):
        write_policy(written, MANIFEST, {"../up": b""}, {})
    assert sorted(path.name for path in written.iterdir()) == before
    assert read_policy(written).models == MODELS


def test_write_policy_fails_at_manifest_keeps_old_policy(written, monkeypatch):
    from tieralloc.policy import directory as policy_directory

    def failing(path):
        if path.name == "manifest.json":
            raise OSError(28, "No space left on device", str(path))
        return replacing(path)

    replacing = policy_directory.replacing
    monkeypatch.setattr(policy_directory, "replacing", failing)
    with pytest.raises(OSError, match="No space left"):
        write_policy(written, replace(MANIFEST, seed=9), {"caching-5": b"new"}, {})
    policy = read_policy(written)
    assert (policy.manifest, policy.models) == (MANIFEST, MODELS)


@pytest.mark.parametrize(
    ("policy", "features", "message"),
    [
        ("recmg-paper", FEATURES, "expected policy 'recmg-paper', got 'recmg'"),
        ("recmg", replace(FEATURES, name="ids"), "features 'ids' of version 2, got 'gaps'"),
        ("recmg", replace(FEATURES, version=3), "of version 3, got 'gaps' of version 2"),
        ("recmg", replace(FEATURES, width=8), "expected 8 features per row, got 7"),
    ],
)
def test_check_fits_mismatch_raises(written, policy, features, message):
    with pytest.raises(ValueError, match=message):
        read_policy(written).check_fits(policy, features)


def test_check_tables_more_rows_pass_if_tables_may_grow(written):
    policy = read_policy(written)
    policy.check_tables([("item", 101), ("user", 20)], grown=True)
    with pytest.raises(ValueError, match="'item' of 100 rows or more as table 0, got 'item' of 99"):
        policy.check_tables([("item", 99), ("user", 20)], grown=True)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ([("item", 100)], "expected 2 tables, got 1"),
        ([("item", 100), ("user", 21)], "'user' of 20 rows as table 1, got 'user' of 21"),
        ([("user", 20), ("item", 100)], "'item' of 100 rows as table 0, got 'user' of 20"),
    ],
)
def test_check_tables_mismatch_raises(written, tables, message):
    with pytest.raises(ValueError, match=message):
        read_policy(written).check_tables(tables)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 3}, "expected format version 2, got 3"),
        (
            {"format_version": 1},
            r"manifest\.json: format version 1 is of an older tieralloc; train the policy again:"
            " tieralloc train T --out DIR",
        ),
        ({"format_version": None}, "expected format version 2, got None"),
        ({"policy": 5}, "invalid manifest: expected a string, got 5"),
        ({"seed": -1}, "invalid manifest: expected a non-negative integer, got -1"),
        ({"seed": True}, "invalid manifest: expected a non-negative integer, got True"),
        ({"features": {}}, "invalid manifest: missing 'name'"),
        ({"tables": 3}, "invalid manifest"),
        ({"models": []}, "invalid manifest"),
        ({"models": {"m": {"file": "../manifest.json", "sha256": ""}}}, "expected a plain file"),
        ({"models": {"m": {"file": "manifest.json", "sha256": ""}}}, "manifest.json: damaged"),
    ],
)
def test_read_policy_invalid_manifest_raises(written, changes, message):
    edit(written, **changes)
    with pytest.raises(ValueError, match=message):
        read_policy(written)


def test_read_policy_other_directory_raises(tmp_path):
    with pytest.raises(ValueError, match=r"no manifest\.json; .*tieralloc train"):
        read_policy(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_policy(tmp_path / "missing")
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="invalid JSON"):
        read_policy(tmp_path)
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(ValueError, match="expected format version 2, got None"):
        read_policy(tmp_path)


def test_read_policy_damaged_file_raises(written):
    for path in written.iterdir():
        if path.name == "manifest.json":
            continue
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(ValueError, match=f"{path.name}: damaged"):
            read_policy(written)
        path.write_bytes(content)


def test_read_policy_arrays_with_pickles_raises(written, tmp_path):
    hostile = written / "hostile.npz"
    np.savez(hostile, bad=np.array([{}], dtype=object))
    digest = hashlib.sha256(hostile.read_bytes()).hexdigest()
    edit(written, arrays={"file": hostile.name, "sha256": digest})
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_policy(written)


@given(any_arrays(np.uint64, st.integers(0, 20)), st.data())
def test_fingerprint_differs_between_streams(accesses, data):
    assert fingerprint(accesses) == fingerprint(accesses.copy())
    assert fingerprint(accesses) == hashlib.sha256(accesses.astype("<u8").tobytes()).hexdigest()
    if len(accesses):
        other = accesses.copy()
        other[data.draw(st.integers(0, len(accesses) - 1))] += np.uint64(1)
        assert fingerprint(accesses) != fingerprint(other)
