"""Policy directories: learned policies as files, a manifest that says what they are beside them.

``manifest.json`` names the compiled models and the file of arrays, each with its SHA-256; a file's
name bears the hash of what is in it, and the manifest is replaced last. So a directory holds one
whole policy at any time, the former or the new one.

The models are TorchScript archives. Loading one can run code that its maker chose: take policy
directories from those only whom you would take a program from. The hashes tell damage, not
tampering. Nothing else here is executable: the manifest is JSON, the arrays hold no pickles.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tieralloc._common.files import replacing

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "FORMAT_VERSION",
    "Capacity",
    "FeatureSpec",
    "Manifest",
    "PolicyDirectory",
    "TrainingTrace",
    "fingerprint",
    "policy_name",
    "read_policy",
    "write_policy",
]

#: What directories are written in, and the only one that is read.
FORMAT_VERSION = 2

_MANIFEST = "manifest.json"
_ARRAYS = "arrays"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class FeatureSpec:
    """What a model is told of an access.

    Parameters
    ----------
    name : str
        Which features: code that computes them goes by this name.
    version : int
        Raised whenever the same accesses come to give other values.
    width : int
        Values a row of features has.
    """

    name: str
    version: int
    width: int


@dataclass(frozen=True)
class TrainingTrace:
    """What a policy was trained on.

    Parameters
    ----------
    name : str
        The trace's.
    fingerprint : str
        Of all its accesses, as `fingerprint` gives it.
    accesses : int
        How many of them, from the first, were learned from.
    """

    name: str
    fingerprint: str
    accesses: int


@dataclass(frozen=True)
class Capacity:
    """A fast tier that a policy was trained for, and its share of the trace's distinct rows."""

    fast_fraction: float
    fast_rows: int


@dataclass(frozen=True)
class Manifest:
    """What a policy directory holds.

    Parameters
    ----------
    policy : str
        What the command line calls the policy.
    features : FeatureSpec
        What its models are told.
    tables : sequence of (str, int)
        Names and num_embeddings of the tables, in the order in which their rows are numbered.
    trace : TrainingTrace
        What it learned from.
    capacities : sequence of Capacity
        What it was trained for.
    seed : int
        Of its training.
    settings : mapping
        What else the policy needs to run, as JSON has it.
    metrics : mapping
        What training measured, as JSON has it.
    """

    policy: str
    features: FeatureSpec
    tables: Sequence[tuple[str, int]]
    trace: TrainingTrace
    capacities: Sequence[Capacity]
    seed: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class PolicyDirectory:
    """A policy directory, read.

    Parameters
    ----------
    path : path
        Where it is.
    manifest : Manifest
        What it holds.
    models : mapping of str to bytes
        Compiled models by name, not loaded yet.
    arrays : mapping of str to array
        The other things learned.
    """

    path: Path
    manifest: Manifest
    models: Mapping[str, bytes]
    arrays: Mapping[str, NDArray[Any]]

    def check_fits(self, policy: str, features: FeatureSpec) -> None:
        """Refuse a directory of another policy, or of other features than these.

        Raises
        ------
        ValueError
            Naming the directory, what it holds and what was expected.
        """
        found = self.manifest.features
        if self.manifest.policy != policy:
            raise ValueError(
                f"{self.path} holds policy {self.manifest.policy!r}, expected {policy!r}"
            )
        if (found.name, found.version) != (features.name, features.version):
            raise ValueError(
                f"{self.path} needs features {found.name!r} of version {found.version}, expected"
                f" {features.name!r} of version {features.version}: train it anew"
            )
        if found.width != features.width:
            raise ValueError(
                f"{self.path} takes rows of {found.width} features, expected {features.width}:"
                " train it anew"
            )

    def check_tables(self, tables: Sequence[tuple[str, int]]) -> None:
        """Refuse tables other than those whose rows the policy knows.

        Raises
        ------
        ValueError
            Naming the directory and the first table that differs.
        """
        known = list(self.manifest.tables)
        if len(known) != len(tables):
            raise ValueError(f"{self.path} is for {len(known)} tables, got {len(tables)}")
        for number, (own, other) in enumerate(zip(known, tables, strict=True)):
            if own != other:
                raise ValueError(
                    f"{self.path} is for a table {own[0]!r} of {own[1]} rows as number {number},"
                    f" got {other[0]!r} of {other[1]}"
                )

    def has_seen(self, accesses: NDArray[np.uint64], first: int) -> bool:
        """Whether the policy learned from accesses of this stream from number `first` on."""
        trace = self.manifest.trace
        return first < trace.accesses and trace.fingerprint == fingerprint(accesses)


def fingerprint(accesses: NDArray[np.uint64]) -> str:
    """Return the SHA-256 of an access stream: of its rows as little-endian 64-bit integers."""
    return hashlib.sha256(np.ascontiguousarray(accesses, dtype="<u8").data).hexdigest()


def write_policy(
    path: str | os.PathLike[str],
    manifest: Manifest,
    models: Mapping[str, bytes],
    arrays: Mapping[str, NDArray[Any]],
) -> None:
    """Write a policy directory, or replace the policy in it.

    Parameters
    ----------
    path : str or path
        Made if it is not there. Files that are no part of a policy stay.
    manifest : Manifest
        What it will hold.
    models : mapping of str to bytes
        Compiled models by name.
    arrays : mapping of str to array
        Of numbers or strings.

    Raises
    ------
    ValueError
        For a name that is no plain file name, an array of objects, what JSON cannot hold.
    OSError
        Where something cannot be written; the policy that was there still is.
    """
    path = Path(path)
    for name in models:
        if not _PLAIN_NAME.fullmatch(name):
            raise ValueError(f"model {name!r} has no plain name, expected {_PLAIN_NAME.pattern}")
    contents = {name: (_file_name(name, data, "pt"), data) for name, data in models.items()}
    packed = _pack(arrays)
    document = {
        "format_version": FORMAT_VERSION,
        **asdict(manifest),
        "models": {name: _entry(file, data) for name, (file, data) in contents.items()},
        "arrays": _entry(_file_name(_ARRAYS, packed, "npz"), packed),
    }
    text = json.dumps(document, indent=2, allow_nan=False) + "\n"

    path.mkdir(parents=True, exist_ok=True)
    former = _files_named_in(path)
    written = [*contents.values(), (document["arrays"]["file"], packed)]
    for file_name, data in written:
        with replacing(path / file_name) as file:
            file.write(data)
    with replacing(path / _MANIFEST) as file:
        file.write(text.encode())
    for file_name in former - {file_name for file_name, _ in written}:
        (path / file_name).unlink(missing_ok=True)


def read_policy(path: str | os.PathLike[str]) -> PolicyDirectory:
    """Read a policy directory, running none of its code.

    Raises
    ------
    ValueError
        Where it holds no policy, one of another format version, or a damaged one.
    OSError
        Where something cannot be read.
    """
    path = Path(path)
    document = _read_document(path)
    try:
        manifest = _manifest_of(document)
        models = {_text(name): _read(path, entry) for name, entry in document["models"].items()}
        packed = _read(path, document["arrays"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path / _MANIFEST} is no sound manifest: {error!r}") from error
    with np.load(io.BytesIO(packed), allow_pickle=False) as loaded:
        arrays = {name: loaded[name] for name in loaded}
    return PolicyDirectory(path, manifest, models, arrays)


def policy_name(path: str | os.PathLike[str]) -> str:
    """Return the name of the policy in a directory; raises as `read_policy` does."""
    document = _read_document(Path(path))
    try:
        return _text(document["policy"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{Path(path) / _MANIFEST} is no sound manifest: {error!r}") from error


def _read_document(path: Path) -> dict[str, Any]:
    try:
        text = (path / _MANIFEST).read_bytes()
    except FileNotFoundError:
        if not path.is_dir():
            raise
        raise ValueError(
            f"{path} has no {_MANIFEST}: it is no policy directory, or its training has not ended"
            " (tieralloc train T --out DIR makes one)"
        ) from None
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path / _MANIFEST} is no JSON: {error}") from error
    version = document.get("format_version") if isinstance(document, dict) else None
    if version == 1:
        raise ValueError(
            f"{path / _MANIFEST}: format version 1 is of an older tieralloc; train the policy"
            " again: tieralloc train T --out DIR"
        )
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{path / _MANIFEST} has format version {version!r}, expected {FORMAT_VERSION}"
        )
    assert isinstance(document, dict)
    return document


def _manifest_of(document: Mapping[str, Any]) -> Manifest:
    features, trace = document["features"], document["trace"]
    return Manifest(
        policy=_text(document["policy"]),
        features=FeatureSpec(
            _text(features["name"]), _whole(features["version"]), _whole(features["width"])
        ),
        tables=[(_text(name), _whole(rows)) for name, rows in document["tables"]],
        trace=TrainingTrace(
            _text(trace["name"]), _text(trace["fingerprint"]), _whole(trace["accesses"])
        ),
        capacities=[
            Capacity(float(capacity["fast_fraction"]), _whole(capacity["fast_rows"]))
            for capacity in document["capacities"]
        ],
        seed=_whole(document["seed"]),
        settings=dict(document["settings"]),
        metrics=dict(document["metrics"]),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} where a string is expected")
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError(f"{value!r} where a whole number is expected")
    return value


def _file_name(name: str, data: bytes, suffix: str) -> str:
    return f"{name}-{hashlib.sha256(data).hexdigest()[:12]}.{suffix}"


def _entry(file: str, data: bytes) -> dict[str, Any]:
    return {"file": file, "sha256": hashlib.sha256(data).hexdigest()}


def _pack(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise ValueError(f"array {name!r} holds objects, expected numbers or strings")
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
    return packed.getvalue()


def _read(path: Path, entry: Mapping[str, Any]) -> bytes:
    name = _text(entry["file"])
    if not _PLAIN_NAME.fullmatch(name):  # so that no manifest leads out of its directory
        raise TypeError(f"{name!r} where the name of a file is expected")
    data = (path / name).read_bytes()
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise ValueError(f"{path / name} is damaged: it is not what {_MANIFEST} says it is")
    return data


def _files_named_in(path: Path) -> set[str]:
    """Files of the policy that is in a directory, as far as they can be told."""
    try:
        document = json.loads((path / _MANIFEST).read_bytes())
        names = [entry["file"] for entry in [*document["models"].values(), document["arrays"]]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()
    return {name for name in names if isinstance(name, str) and _PLAIN_NAME.fullmatch(name)}
