"""Policy directories with changed content and right hashes: ValueError that names the directory.

A model that is changed is code of an unknown author, which may do anything: only damage to it is
tested.
"""

import hashlib
import io
import json
import random
import shutil
import zipfile

import numpy as np
import pytest
from paper_support import hot_and_cold

pytest.importorskip("torch")

from tieralloc.policies.recmg.policy import RecmgPolicy
from tieralloc.policies.recmg_paper.policy import PaperPolicy
from tieralloc.policies.registry import trainer

from tieralloc.policy.directory import policy_name, read_policy

LOADERS = {"recmg": RecmgPolicy, "recmg-paper": PaperPolicy}
VALUES = (
    *(None, True, 0, -1, 1, 255, 1 << 31, 1 << 63, 10**400, 0.5, float("inf"), float("nan")),
    *("", "x", "caching", "../up", "a\ud800", [], {}, [[]], [1, 2], {"file": "x"}, [[1, 2.0]]),
)


@pytest.fixture(scope="module", params=LOADERS)
def trained(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("policies") / request.param
    trainer(request.param)(hot_and_cold(400), directory, [0.1], epochs=1, seed=1)
    return directory


def changed_json(value, rng):
    """Return a JSON value with a random change at a random place."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        kept = {name: other for name, other in value.items() if name != key}
        return kept if rng.random() < 0.1 else kept | {key: changed_json(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        change = rng.choice(([], [value[at]] * 2, [changed_json(value[at], rng)]))
        return value[:at] + change + value[at + 1 :]
    return rng.choice(VALUES)


def changed_bytes(content, rng):
    content = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(content))
        if rng.random() < 0.5:
            content[at] ^= 1 << rng.randrange(8)
        else:
            del content[at : at + rng.randint(1, 16)]
    return bytes(content)


def changed_arrays(content, rng):
    """Return an npz file with a change in a member, whose checksum is right."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(packed, "w") as new:
        victim = rng.choice(old.namelist())
        for name in old.namelist():
            data = old.read(name)
            if name == victim:
                if rng.random() < 0.2:
                    continue
                data = changed_bytes(data[:160], rng) + data[160:]
            new.writestr(name, data)
    return packed.getvalue()


def change(directory, rng):
    """Change one file of a directory; the manifest keeps the right hashes of all others."""
    path = directory / "manifest.json"
    manifest = json.loads(path.read_bytes())
    kind = rng.random()
    if kind < 0.1:
        path.write_bytes(changed_bytes(path.read_bytes(), rng))
        return
    if kind < 0.75:
        part = rng.choice(("settings", "capacities", "tables", "features", None))
        changed = changed_json(manifest if part is None else manifest[part], rng)
        path.write_text(json.dumps(changed if part is None else manifest | {part: changed}))
        return
    entry = manifest["arrays"]
    changes = (changed_arrays, changed_bytes)
    if kind > 0.9:
        entry = rng.choice(list(manifest["models"].values()))
        changes = (changed_bytes,)
    content = rng.choice(changes)((directory / entry["file"]).read_bytes(), rng)
    (directory / entry["file"]).write_bytes(content)
    entry["sha256"] = hashlib.sha256(content).hexdigest()
    path.write_text(json.dumps(manifest))


@pytest.mark.filterwarnings("ignore:Reading .*header parsing:UserWarning")
def test_changed_policy_is_loaded_or_refused_with_its_path(trained, tmp_path):
    directory = tmp_path / "policy"
    attempts = (policy_name, read_policy, LOADERS[trained.name].load)
    refused = 0
    for seed in range(400):
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(trained, directory)
        change(directory, random.Random(seed))
        for attempt in attempts:
            try:
                attempt(directory)
            except Exception as error:
                is_missing = isinstance(error, FileNotFoundError) and error.filename is not None
                is_documented = isinstance(error, ValueError) and str(directory) in str(error)
                if not is_documented and not is_missing:
                    raise AssertionError(f"seed {seed}: {attempt} raises {error!r}") from error
                refused += 1
    assert refused > 100


def test_load_paper_policy_of_declared_rows_allocates_nothing(trained, tmp_path):
    if trained.name != "recmg-paper":
        pytest.skip("has no order of all rows")
    directory = shutil.copytree(trained, tmp_path / "policy")
    path = directory / "manifest.json"
    manifest = json.loads(path.read_bytes())
    path.write_text(json.dumps(manifest | {"tables": [["hot", 1 << 40]]}))
    with pytest.raises(ValueError, match=f"order must hold each of {1 << 40} rows once"):
        PaperPolicy.load(directory)


def test_read_policy_names_damaged_arrays(trained, tmp_path):
    directory = shutil.copytree(trained, tmp_path / "policy")
    path = directory / "manifest.json"
    manifest = json.loads(path.read_bytes())
    (directory / "empty.npz").write_bytes(b"")
    manifest["arrays"] = {"file": "empty.npz", "sha256": hashlib.sha256(b"").hexdigest()}
    path.write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"empty\.npz: invalid arrays: "):
        read_policy(directory)
    np.savez(directory / "other.npz", other=np.zeros(1))
    content = (directory / "other.npz").read_bytes()
    manifest["arrays"] = {"file": "other.npz", "sha256": hashlib.sha256(content).hexdigest()}
    path.write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=str(directory)):
        LOADERS[trained.name].load(directory)
