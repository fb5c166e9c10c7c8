"""Policy directories: the files of a learned policy, with a manifest.

``manifest.json`` lists the compiled models and the file of arrays, each with its SHA-256. File
names contain the hash of the content, and a write replaces the manifest last. A directory
therefore contains one complete policy at any time: the old one or the new one.

The models are TorchScript archives. Loading one can run code of its author: use only policy
directories from sources that you trust to run programs. The hashes detect damage, not tampering.
Nothing else is executable: the manifest is JSON, and arrays with pickles are refused.
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

from tieralloc._common.files import decoding, replacing

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

#: The only format version that is written and read.
FORMAT_VERSION = 2

_MANIFEST = "manifest.json"
_ARRAYS = "arrays"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class FeatureSpec:
    """The input features of a model."""

    name: str  # identifies the code that computes the features
    version: int  # increases whenever the same accesses give other values
    width: int  # number of features of a row


@dataclass(frozen=True)
class TrainingTrace:
    """The training trace of a policy."""

    name: str
    fingerprint: str  # `fingerprint` of all its accesses
    accesses: int  # number of accesses used for training, from the first


@dataclass(frozen=True)
class Capacity:
    """A fast tier in training: its rows, and their fraction of the trace's distinct rows."""

    fast_fraction: float
    fast_rows: int


@dataclass(frozen=True)
class Manifest:
    """The description of a policy in its directory."""

    policy: str  # name of the policy on the command line
    features: FeatureSpec  # input features of the models
    #: Names and num_embeddings of the tables, in the order of the row numbers.
    tables: Sequence[tuple[str, int]]
    trace: TrainingTrace
    capacities: Sequence[Capacity]  # the fast tiers in training
    seed: int  # random seed of the training
    #: Other settings of the policy, in JSON types.
    settings: Mapping[str, Any] = field(default_factory=dict)
    #: Metrics of the training, in JSON types.
    metrics: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class PolicyDirectory:
    """The content of a policy directory."""

    path: Path
    manifest: Manifest
    models: Mapping[str, bytes]  # compiled models by name, not loaded yet
    arrays: Mapping[str, NDArray[Any]]  # other results of the training

    def check_fits(self, policy: str, features: FeatureSpec) -> None:
        """Raise ValueError unless the directory contains this policy with these features."""
        actual = self.manifest.features
        if self.manifest.policy != policy:
            raise ValueError(
                f"{self.path}: expected policy {policy!r}, got {self.manifest.policy!r}"
            )
        if (actual.name, actual.version) != (features.name, features.version):
            raise ValueError(
                f"{self.path}: expected features {features.name!r} of version {features.version},"
                f" got {actual.name!r} of version {actual.version}; train the policy again"
            )
        if actual.width != features.width:
            raise ValueError(
                f"{self.path}: expected {features.width} features per row, got {actual.width};"
                " train the policy again"
            )

    def check_tables(
        self, tables: Sequence[tuple[str, int]], *, complete: bool = True, grown: bool = False
    ) -> None:
        """Raise ValueError unless these are the policy's tables, or the first if not `complete`.

        They may have more rows if `grown`. The message names the first table that differs.
        """
        expected = list(self.manifest.tables)
        if len(tables) > len(expected) or (complete and len(tables) < len(expected)):
            raise ValueError(f"{self.path}: expected {len(expected)} tables, got {len(tables)}")
        for number, ((name, rows), (other, other_rows)) in enumerate(
            zip(expected, tables, strict=False)
        ):
            fits = rows <= other_rows if grown else rows == other_rows
            if name == other and fits:
                continue
            raise ValueError(
                f"{self.path}: expected a table {name!r} of {rows} rows{' or more' * grown} as "
                f"table {number}, got {other!r} of {other_rows} rows"
            )

    def has_seen(self, accesses: NDArray[np.uint64], first: int) -> bool:
        """Return whether training used accesses of this stream from number `first` on."""
        trace = self.manifest.trace
        return first < trace.accesses and trace.fingerprint == fingerprint(accesses)


def fingerprint(accesses: NDArray[np.uint64]) -> str:
    """Return the SHA-256 of an access stream, its rows as little-endian 64-bit integers."""
    return hashlib.sha256(np.ascontiguousarray(accesses, dtype="<u8").data).hexdigest()


def write_policy(
    path: str | os.PathLike[str],
    manifest: Manifest,
    models: Mapping[str, bytes],
    arrays: Mapping[str, NDArray[Any]],
) -> None:
    """Write a policy directory, or replace the policy in it; files of other origin stay.

    Raises
    ------
    ValueError
        For a model name that is not a plain file name, an array of objects, or a manifest that
        JSON cannot represent.
    OSError
        If a file cannot be written; an existing policy stays unchanged.
    """
    path = Path(path)
    for name in models:
        if not _PLAIN_NAME.fullmatch(name):
            raise ValueError(
                f"models: expected names that match {_PLAIN_NAME.pattern}, got {name!r}"
            )
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
    old_files = _listed_files(path)
    files = [*contents.values(), (document["arrays"]["file"], packed)]
    for file_name, data in files:
        with replacing(path / file_name) as file:
            file.write(data)
    with replacing(path / _MANIFEST) as file:
        file.write(text.encode())
    for file_name in old_files - {file_name for file_name, _ in files}:
        (path / file_name).unlink(missing_ok=True)


def read_policy(path: str | os.PathLike[str]) -> PolicyDirectory:
    """Read a policy directory without running code from it.

    Raises
    ------
    ValueError
        If the directory has no policy, a damaged one, or one of another format version.
    OSError
        If a file cannot be read.
    """
    path = Path(path)
    document = _read_document(path)
    with decoding(path / _MANIFEST, "manifest"):
        manifest = _parse_manifest(document)
        entries = {_string(name): _parse_entry(entry) for name, entry in document["models"].items()}
        file, digest = _parse_entry(document["arrays"])
    models = {name: _read_file(path, *entry) for name, entry in entries.items()}
    packed = _read_file(path, file, digest)
    with decoding(path / file, "arrays"), np.load(io.BytesIO(packed), allow_pickle=False) as loaded:
        arrays = {name: np.asarray(loaded[name]) for name in loaded}
    return PolicyDirectory(path, manifest, models, arrays)


def policy_name(path: str | os.PathLike[str]) -> str:
    """Return the name of the policy in a directory; raises as `read_policy` does."""
    document = _read_document(Path(path))
    with decoding(Path(path) / _MANIFEST, "manifest"):
        return _string(document["policy"])


def _read_document(path: Path) -> dict[str, Any]:
    try:
        text = (path / _MANIFEST).read_bytes()
    except FileNotFoundError:
        if not path.is_dir():
            raise
        raise ValueError(
            f"{path}: no {_MANIFEST}; expected a policy directory after its training: run tieralloc"
            " train T --out DIR"
        ) from None
    with decoding(path / _MANIFEST, "JSON"):
        document = json.loads(text)
    version = document.get("format_version") if isinstance(document, dict) else None
    if version == 1:
        raise ValueError(
            f"{path / _MANIFEST}: format version 1 is of an older tieralloc; train the policy"
            " again: tieralloc train T --out DIR"
        )
    if not isinstance(document, dict) or version != FORMAT_VERSION:
        raise ValueError(
            f"{path / _MANIFEST}: expected format version {FORMAT_VERSION}, got {version!r}"
        )
    return document


def _parse_manifest(document: Mapping[str, Any]) -> Manifest:
    features, trace = document["features"], document["trace"]
    return Manifest(
        policy=_string(document["policy"]),
        features=FeatureSpec(
            _string(features["name"]), _count(features["version"]), _count(features["width"])
        ),
        tables=[(_string(name), _count(rows)) for name, rows in document["tables"]],
        trace=TrainingTrace(
            _string(trace["name"]), _string(trace["fingerprint"]), _count(trace["accesses"])
        ),
        capacities=[
            Capacity(float(capacity["fast_fraction"]), _count(capacity["fast_rows"]))
            for capacity in document["capacities"]
        ],
        seed=_count(document["seed"]),
        settings=dict(document["settings"]),
        metrics=dict(document["metrics"]),
    )


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a string, got {value!r}")
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError(f"expected a non-negative integer, got {value!r}")
    return value


def _file_name(name: str, data: bytes, suffix: str) -> str:
    return f"{name}-{hashlib.sha256(data).hexdigest()[:12]}.{suffix}"


def _entry(file: str, data: bytes) -> dict[str, Any]:
    return {"file": file, "sha256": hashlib.sha256(data).hexdigest()}


def _pack(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise ValueError(f"array {name!r}: expected numbers or strings, got objects")
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
    return packed.getvalue()


def _parse_entry(entry: Mapping[str, Any]) -> tuple[str, str]:
    name = _string(entry["file"])
    if not _PLAIN_NAME.fullmatch(name):  # a path could lead out of the directory
        raise TypeError(f"expected a plain file name, got {name!r}")
    return name, _string(entry["sha256"])


def _read_file(path: Path, name: str, digest: str) -> bytes:
    data = (path / name).read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise ValueError(f"{path / name}: damaged; its SHA-256 differs from {_MANIFEST}")
    return data


def _listed_files(path: Path) -> set[str]:
    """Return the files in the manifest of a directory; none for an invalid manifest."""
    try:
        document = json.loads((path / _MANIFEST).read_bytes())
        names = [entry["file"] for entry in [*document["models"].values(), document["arrays"]]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()
    return {name for name in names if isinstance(name, str) and _PLAIN_NAME.fullmatch(name)}
