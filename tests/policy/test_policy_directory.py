"""Policy directories: written whole, read as written, refused where they do not fit."""

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


def test_what_is_written_is_read(written):
    found = read_policy(written)
    assert found.manifest == MANIFEST
    assert found.models == MODELS
    assert found.arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found.arrays[name].tolist() == array.tolist()
    found.check_fits("recmg", FEATURES)
    found.check_tables([("item", 100), ("user", 20)])


def test_another_policy_takes_the_place_of_the_former_and_of_its_files_only(written):
    (written / "notes.txt").write_text("mine")
    write_policy(written, replace(MANIFEST, seed=4), {"caching-5": b"three"}, {})
    found = read_policy(written)
    assert (found.manifest.seed, found.models) == (4, {"caching-5": b"three"})
    assert len(list(written.iterdir())) == 4  # the manifest, a model, the arrays, the notes


def test_a_failed_write_leaves_the_former_policy(written, monkeypatch):
    before = sorted(path.name for path in written.iterdir())
    with pytest.raises(ValueError, match="Out of range float"):
        write_policy(written, replace(MANIFEST, metrics={"x": float("nan")}), {}, {})
    with pytest.raises(ValueError, match="'bad' holds objects"):
        write_policy(written, MANIFEST, {}, {"bad": np.array([{}])})
    with pytest.raises(ValueError, match=r"'\.\./up' has no plain name"):
        write_policy(written, MANIFEST, {"../up": b""}, {})
    assert sorted(path.name for path in written.iterdir()) == before
    assert read_policy(written).models == MODELS


def test_a_disk_that_fails_at_the_manifest_leaves_the_former_policy(written, monkeypatch):
    from tieralloc.policy import directory as policy_directory

    def failing(path):
        if path.name == "manifest.json":
            raise OSError(28, "No space left on device", str(path))
        return replacing(path)

    replacing = policy_directory.replacing
    monkeypatch.setattr(policy_directory, "replacing", failing)
    with pytest.raises(OSError, match="No space left"):
        write_policy(written, replace(MANIFEST, seed=9), {"caching-5": b"new"}, {})
    found = read_policy(written)
    assert (found.manifest, found.models) == (MANIFEST, MODELS)


@pytest.mark.parametrize(
    ("policy", "features", "told"),
    [
        ("recmg-paper", FEATURES, "holds policy 'recmg', expected 'recmg-paper'"),
        ("recmg", replace(FEATURES, name="ids"), "features 'gaps' of version 2, expected 'ids'"),
        ("recmg", replace(FEATURES, version=3), "of version 2, expected 'gaps' of version 3"),
        ("recmg", replace(FEATURES, width=8), "rows of 7 features, expected 8"),
    ],
)
def test_a_policy_that_does_not_fit_is_refused(written, policy, features, told):
    with pytest.raises(ValueError, match=told):
        read_policy(written).check_fits(policy, features)


@pytest.mark.parametrize(
    ("tables", "told"),
    [
        ([("item", 100)], "is for 2 tables, got 1"),
        ([("item", 100), ("user", 21)], "'user' of 20 rows as number 1, got 'user' of 21"),
        ([("user", 20), ("item", 100)], "'item' of 100 rows as number 0, got 'user' of 20"),
    ],
)
def test_other_tables_are_refused(written, tables, told):
    with pytest.raises(ValueError, match=told):
        read_policy(written).check_tables(tables)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"format_version": 3}, "format version 3, expected 2"),
        (
            {"format_version": 1},
            r"manifest\.json: format version 1 is of an older tieralloc; train the policy again:"
            " tieralloc train T --out DIR",
        ),
        ({"format_version": None}, "format version None"),
        ({"policy": 5}, "no sound manifest.*5 where a string"),
        ({"seed": -1}, "-1 where a whole number"),
        ({"seed": True}, "True where a whole number"),
        ({"features": {}}, "no sound manifest: KeyError"),
        ({"tables": 3}, "no sound manifest"),
        ({"models": []}, "no sound manifest"),
        ({"models": {"m": {"file": "../manifest.json", "sha256": ""}}}, "name of a file"),
        ({"models": {"m": {"file": "manifest.json", "sha256": ""}}}, "is damaged"),
    ],
)
def test_an_unsound_manifest_is_refused(written, changes, told):
    edit(written, **changes)
    with pytest.raises(ValueError, match=told):
        read_policy(written)


def test_what_is_no_policy_directory_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"has no manifest\.json.*tieralloc train"):
        read_policy(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_policy(tmp_path / "nowhere")
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="is no JSON"):
        read_policy(tmp_path)
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(ValueError, match="format version None"):
        read_policy(tmp_path)


def test_any_damaged_byte_of_a_model_or_of_the_arrays_is_noticed(written):
    for path in written.iterdir():
        if path.name == "manifest.json":
            continue
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(ValueError, match=f"{path.name} is damaged"):
            read_policy(written)
        path.write_bytes(whole)


def test_arrays_with_pickles_are_not_read(written, tmp_path):
    hostile = written / "hostile.npz"
    np.savez(hostile, bad=np.array([{}], dtype=object))
    digest = hashlib.sha256(hostile.read_bytes()).hexdigest()
    edit(written, arrays={"file": hostile.name, "sha256": digest})
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_policy(written)


@given(any_arrays(np.uint64, st.integers(0, 20)), st.data())
def test_a_fingerprint_tells_streams_apart(accesses, data):
    assert fingerprint(accesses) == fingerprint(accesses.copy())
    assert fingerprint(accesses) == hashlib.sha256(accesses.astype("<u8").tobytes()).hexdigest()
    if len(accesses):
        other = accesses.copy()
        other[data.draw(st.integers(0, len(accesses) - 1))] += np.uint64(1)
        assert fingerprint(accesses) != fingerprint(other)
