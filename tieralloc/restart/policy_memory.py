"""Files of what a learned policy has learnt from the accesses to a store.

A file is a ZIP archive, not compressed: `about.json` has the format's version and the key of each
tier's memory; a member per tier has the bytes. The key names all that they depend on: the model,
the tables, the size of the tier. The policy makes no step while its memory is read or written.
"""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tieralloc._bindings import HeldPolicy
from tieralloc._common.files import decoding, naming, replacing

if TYPE_CHECKING:
    from tieralloc._bindings.store_base import StoreBase

__all__ = ["restore_policy", "save_policy"]

_VERSION = 1


def save_policy(core: StoreBase, path: str | os.PathLike[str]) -> None:
    """Write the file, completely or not at all; remove it if nothing has been learnt."""
    with HeldPolicy(core) as policy:
        keys = policy.keys()
        if not any(keys):
            Path(path).unlink(missing_ok=True)
            return
        with replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
            archive.writestr("about.json", json.dumps({"version": _VERSION, "keys": keys}))
            for tier, key in enumerate(keys):
                if key:
                    with archive.open(str(tier), "w", force_zip64=True) as member:
                        policy.save(tier, member.write)


def restore_policy(core: StoreBase, path: str | os.PathLike[str]) -> int:
    """Let the policy go on from a file; return the number of tiers whose memory it has.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not such a file, is damaged, or of a newer version.
    """
    with (
        naming(path),
        open(path, "rb") as file,
        decoding(path, "file of a policy"),
        zipfile.ZipFile(file) as archive,
    ):
        about = json.loads(archive.read("about.json"))
        if about["version"] != _VERSION:
            raise ValueError(f"version: expected {_VERSION}, got {about['version']!r}")
        damaged = archive.testzip()  # before the policy takes anything
        if damaged is not None:
            raise ValueError(f"member {damaged!r}: wrong checksum")
        with HeldPolicy(core) as policy:
            pairs = enumerate(zip(policy.keys(), about["keys"], strict=False))
            fitting = [tier for tier, (own, saved) in pairs if own and own == saved]
            for tier in fitting:
                _restore_tier(policy, tier, archive)
            return len(fitting)


def _restore_tier(policy: HeldPolicy, tier: int, archive: zipfile.ZipFile) -> None:
    expected, actual = policy.nbytes(tier), archive.getinfo(str(tier)).file_size
    if actual != expected:
        raise ValueError(f"tier {tier}: expected {expected} bytes, got {actual}")
    with archive.open(str(tier)) as member:
        policy.load(tier, lambda part: _fill(member, part))


def _fill(member: IO[bytes], part: memoryview) -> None:
    done = 0
    while done < len(part):
        read = member.readinto(part[done:])  # type: ignore[attr-defined]
        if not read:
            raise EOFError(f"expected {len(part)} bytes, got {done}")
        done += read
