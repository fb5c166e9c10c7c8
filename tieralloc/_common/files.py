"""Output files, written completely or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

__all__ = [
    "check_writable",
    "decoding",
    "is_decoding_error",
    "naming",
    "remove_temporaries",
    "replacing",
    "sync_directory",
    "temporary_directory",
    "write_durably",
]

_PREFIX = "tieralloc-temp-"
_temporaries: set[Path] = set()  # files and directories that exist for a while


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise the OSError that writing this file would raise, if it is foreseeable."""
    path = Path(path)
    mode = _mode(path)
    if mode is not None and stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not path.parent.is_dir():
        code = errno.ENOTDIR if path.parent.exists() else errno.ENOENT
        raise OSError(code, os.strerror(code), str(path.parent))
    target = path.parent if mode is None or stat.S_ISREG(mode) else path
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(target))


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a temporary file that replaces `path` on success and is removed on failure.

    A symbolic link stays a link to the new file. A pipe, a device or an open descriptor, such as
    /dev/stdout, is written directly.
    """
    path = Path(path)
    mode = _mode(path)
    if mode is not None and (not stat.S_ISREG(mode) or _is_descriptor(path)):
        with naming(path), path.open("wb") as file:
            yield file
        return
    target = Path(os.path.realpath(path))  # replace the target of a link, not the link
    partial = target.with_name(f".{target.name}.{os.urandom(8).hex()}")
    _temporaries.add(partial)
    try:
        with naming(path):
            with partial.open("xb") as file:
                yield file
            partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
        _temporaries.discard(partial)


def write_durably(path: str | os.PathLike[str], content: bytes) -> None:
    """Replace a file: after a crash at any moment it has its former content or the new one."""
    with replacing(path) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    sync_directory(path)


def sync_directory(path: str | os.PathLike[str]) -> None:
    """Make the name of a file durable."""
    directory = os.open(Path(path).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _mode(path: Path) -> int | None:
    """Return the mode of the file behind all links, None if it is missing."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


def _is_descriptor(path: Path) -> bool:
    """Return whether a path is a link to an open descriptor of a process, as /dev/stdout is."""
    while path.is_symlink():
        folder = Path(os.path.realpath(path.parent))
        if folder.name == "fd" and folder.is_relative_to("/proc"):
            return True
        path = folder / path.readlink()
    return False


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Add this path to an OSError without one, such as that of a write."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = os.fspath(path)
        raise


def is_decoding_error(error: Exception) -> bool:
    """Return whether invalid bytes may be the cause of an error: decoders raise almost any kind.

    An errno marks I/O errors, except EINVAL: invalid bytes can request a seek to a negative
    position.
    """
    is_io_error = getattr(error, "errno", None) not in (None, errno.EINVAL)
    return not is_io_error and not isinstance(error, ImportError)


@contextmanager
def decoding(source: object, content: str) -> Iterator[None]:
    """Turn the errors of a decoder into ValueErrors: ``{source}: invalid {content}: {reason}``."""
    try:
        yield
    except Exception as error:
        if not is_decoding_error(error):
            raise
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        if isinstance(error, KeyError):
            reason = f"missing {reason}"
        raise ValueError(f"{source}: invalid {content}: {reason}") from error


@contextmanager
def temporary_directory(parent: str | os.PathLike[str]) -> Iterator[Path]:
    """Create a directory that is removed with its contents.

    Unlike tempfile's, it is removed even if a signal handler raises directly after the creation,
    or during the removal. Directories in `parent` whose process was killed are removed too: the
    lock of a directory ends with its process.
    """
    parent = Path(parent)
    _remove_abandoned(parent)
    path = parent / f"{_PREFIX}{os.urandom(8).hex()}"
    new = path.with_suffix(".new")  # locked before it has the name that the next run searches
    lock = -1
    _temporaries.update((path, new))
    try:
        new.mkdir(mode=0o700)
        lock = os.open(new, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # no locks here: the directory is not searched either
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        new.rename(path)
        yield path
    finally:
        try:
            _remove(path)
            _remove(new)
        except BaseException:
            _remove(path)
            _remove(new)
            raise
        finally:
            _temporaries.difference_update((path, new))
            if lock >= 0:
                os.close(lock)


def remove_temporaries() -> None:
    """Remove what `replacing` and `temporary_directory` would remove: the process ends now."""
    for path in list(_temporaries):
        with contextlib.suppress(OSError):
            if path.is_dir():
                _remove(path)
            else:
                path.unlink(missing_ok=True)


def _remove_abandoned(parent: Path) -> None:
    """Remove temporary directories of this user that no process has locked."""
    for path in parent.glob(f"{_PREFIX}{'[0-9a-f]' * 16}"):
        with contextlib.suppress(OSError):
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if os.fstat(lock).st_uid == os.getuid():
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _remove(path)
            finally:
                os.close(lock)


def _remove(directory: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(directory)
