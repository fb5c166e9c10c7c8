"""Output files that are whole or not there."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

__all__ = ["check_writable", "naming", "replacing", "temporary_directory"]


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise the OSError that writing a file would end in, as far as can be told beforehand."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not path.parent.is_dir():
        code = errno.ENOTDIR if path.parent.exists() else errno.ENOENT
        raise OSError(code, os.strerror(code), str(path.parent))
    target = path if path.exists() and not path.is_file() else path.parent
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(target))


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a file for writing that takes its name when it is whole, and is gone on a failure."""
    path = Path(path)
    if path.exists() and not path.is_file():  # a pipe or a device
        with naming(path), path.open("wb") as file:
            yield file
        return
    target = path.resolve()  # so that a link stays a link
    partial = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        with naming(path):
            with partial.open("xb") as file:
                yield file
            partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Name this file in an OSError that does not say of which file it is, as a write's does."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = os.fspath(path)
        raise


@contextmanager
def temporary_directory(parent: str | os.PathLike[str]) -> Iterator[Path]:
    """Make a directory that is removed with what is in it.

    Unlike tempfile's, it is so even where a signal's handler raises at the worst moment: between
    the making and the noting that it was made, or while it is being removed.
    """
    path = Path(parent) / f"tieralloc-{secrets.token_hex(8)}"
    try:
        path.mkdir(mode=0o700)
        yield path
    finally:
        try:
            _remove(path)
        except BaseException:
            _remove(path)
            raise


def _remove(directory: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(directory)
