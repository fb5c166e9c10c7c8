"""Output files that are whole or not there, and where files live."""

import os
import re
import stat
import threading
from pathlib import Path

import pytest

from tieralloc._common.files import check_writable, replacing, temporary_directory
from tieralloc.tools.disk import can_reserve, default_directory, direct_read_us, file_system_of


def test_a_file_appears_when_it_is_whole(tmp_path):
    with replacing(tmp_path / "file") as file:
        file.write(b"half")
        assert not (tmp_path / "file").exists()
    assert (tmp_path / "file").read_bytes() == b"half"
    assert len(list(tmp_path.iterdir())) == 1


def test_it_has_the_mode_that_open_would_give_it(tmp_path):
    former = os.umask(0o027)
    try:
        with replacing(tmp_path / "file") as file:
            file.write(b"x")
    finally:
        os.umask(former)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_a_failure_leaves_what_was_there(tmp_path):
    (tmp_path / "file").write_text("former")
    file = replacing(tmp_path / "file")
    file.__enter__().write(b"new")
    assert file.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None) is False
    assert (tmp_path / "file").read_text() == "former"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_is_named_with_the_file(tmp_path):
    (tmp_path / "full").symlink_to("/dev/full")
    with (
        pytest.raises(OSError, match=r"No space left on device: '.*/full'"),
        replacing(tmp_path / "full") as file,
    ):
        file.write(b"x")


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "target").write_text("former")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with replacing(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"


def test_a_pipe_is_written_to(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    with replacing(tmp_path / "pipe") as file:
        file.write(b"through")
    reader.join()
    assert read == [b"through"]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_what_could_not_be_written_is_refused_beforehand(tmp_path):
    (tmp_path / "file").write_text("")
    check_writable(tmp_path / "file")
    check_writable(tmp_path / "new")
    with pytest.raises(IsADirectoryError):
        check_writable(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        check_writable(tmp_path / "nowhere" / "file")
    with pytest.raises(NotADirectoryError):
        check_writable(tmp_path / "file" / "file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_we_may_not_write_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        check_writable(tmp_path / "file")


@pytest.mark.parametrize("where", ["made", "filled", "removed"])
def test_a_temporary_directory_goes_whenever_a_signal_comes(tmp_path, monkeypatch, where):
    def interrupted(call):
        def wrapper(*arguments, **options):
            monkeypatch.undo()
            call(*arguments, **options)
            raise KeyboardInterrupt

        return wrapper

    def use():
        with temporary_directory(tmp_path) as made:
            (made / "file").write_text("x")
            if where == "filled":
                raise KeyboardInterrupt

    if where == "made":
        monkeypatch.setattr("pathlib.Path.mkdir", interrupted(Path.mkdir))
    if where == "removed":
        # As if the signal came when half of it was gone.
        monkeypatch.setattr("shutil.rmtree", interrupted(lambda path: (path / "file").unlink()))
    with pytest.raises(KeyboardInterrupt):
        use()
    assert not list(tmp_path.iterdir())


def test_the_kernels_own_file_systems_are_known():
    assert file_system_of("/proc/self").kind == "proc"
    assert file_system_of("/sys/kernel").kind == "sysfs"
    assert not file_system_of("/proc").in_memory


def test_a_directory_is_on_the_mount_that_is_nearest(tmp_path):
    found = file_system_of(tmp_path)
    assert tmp_path.resolve().is_relative_to(found.mount_point)
    assert os.stat(found.mount_point).st_dev == os.stat(tmp_path).st_dev


def test_tmpdir_is_obeyed(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert default_directory() == tmp_path


def test_without_tmpdir_a_disk_is_preferred(monkeypatch):
    monkeypatch.delenv("TMPDIR", raising=False)
    chosen = default_directory()
    if file_system_of(chosen).in_memory:
        pytest.skip("there is no disk here")
    monkeypatch.setattr("tempfile.tempdir", "/dev/shm")
    assert not file_system_of(default_directory()).in_memory


def test_the_disk_is_probed_with_real_reads(tmp_path):
    with (tmp_path / "probe").open("w+b") as file:
        reserved = can_reserve(file.fileno(), 1 << 20)
        assert os.fstat(file.fileno()).st_blocks * 512 >= (1 << 20) * reserved
        try:
            assert direct_read_us(file.fileno()) > 0
        except OSError as refused:
            with pytest.raises(OSError, match=re.escape(refused.strerror)):
                os.open(tmp_path / "probe", os.O_RDONLY | os.O_DIRECT)
