"""Output files, written completely or not at all; file systems and directories of files."""

import os
import re
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tieralloc._common.files import check_writable, replacing, temporary_directory
from tieralloc.tools.disk import can_reserve, default_directory, direct_read_us, file_system_of


def test_replacing_shows_file_only_after_success(tmp_path):
    with replacing(tmp_path / "file") as file:
        file.write(b"half")
        assert not (tmp_path / "file").exists()
    assert (tmp_path / "file").read_bytes() == b"half"
    assert len(list(tmp_path.iterdir())) == 1


def test_replacing_gives_file_mode_of_open(tmp_path):
    old_mask = os.umask(0o027)
    try:
        with replacing(tmp_path / "file") as file:
            file.write(b"x")
    finally:
        os.umask(old_mask)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_replacing_fails_keeps_old_file(tmp_path):
    (tmp_path / "file").write_text("old")
    file = replacing(tmp_path / "file")
    file.__enter__().write(b"new")
    assert file.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None) is False
    assert (tmp_path / "file").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_replacing_on_full_disk_raises_with_path(tmp_path):
    (tmp_path / "full").symlink_to("/dev/full")
    with (
        pytest.raises(OSError, match=r"No space left on device: '.*/full'"),
        replacing(tmp_path / "full") as file,
    ):
        file.write(b"x")


def test_replacing_link_replaces_its_target(tmp_path):
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with replacing(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"


def test_replacing_pipe_writes_to_it(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    received = []
    reader = threading.Thread(target=lambda: received.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    with replacing(tmp_path / "pipe") as file:
        file.write(b"content")
    reader.join()
    assert received == [b"content"]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@pytest.mark.parametrize("kind", ["relative", "absolute", "dangling", "chain"])
def test_replacing_link_of_any_kind_keeps_it(tmp_path, kind):
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "target", tmp_path / "folder" / "link"
    if kind != "dangling":
        target.write_text("old")
    link.symlink_to(target if kind == "absolute" else "../target")
    if kind == "chain":
        (tmp_path / "first").symlink_to("folder/link")
        link = tmp_path / "first"
    with replacing(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert link.read_text() == target.read_text() == "new"


def test_replacing_loop_of_links_raises(tmp_path):
    (tmp_path / "link").symlink_to("link")
    with pytest.raises(OSError, match=r"symbolic links: '.*/link'"), replacing(tmp_path / "link"):
        pass
    with pytest.raises(OSError, match=r"symbolic links: '.*/link'"):
        check_writable(tmp_path / "link")
    assert [path.is_symlink() for path in tmp_path.iterdir()] == [True]


@pytest.mark.parametrize("opened", ["/proc/self/fd/{}", "/dev/fd/{}", "link"])
def test_replacing_descriptor_writes_to_its_open_file(tmp_path, opened):
    """As ``--json /dev/stdout > file``: the file keeps its inode and later writes."""
    with (tmp_path / "file").open("wb") as file:
        if opened == "link":
            (tmp_path / "link").symlink_to(f"/dev/fd/{file.fileno()}")
        with replacing(tmp_path / opened.format(file.fileno())) as output:
            output.write(b"new")
        file.seek(0, os.SEEK_END)
        file.write(b" and more")
    assert (tmp_path / "file").read_bytes() == b"new and more"


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes device nodes")
@pytest.mark.parametrize("through_link", [False, True])
def test_replacing_device_writes_to_it(tmp_path, through_link):
    path = tmp_path / "null"
    try:
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        with path.open("wb"):
            pass
    except PermissionError as error:
        pytest.skip(f"no device nodes here: {error}")
    if through_link:
        (tmp_path / "link").symlink_to("null")
    with replacing(tmp_path / ("link" if through_link else "null")) as file:
        file.write(b"x")
    assert stat.S_ISCHR(path.lstat().st_mode)
    assert (tmp_path / "link").is_symlink() == through_link


def test_check_writable_of_unwritable_path_raises(tmp_path):
    (tmp_path / "file").write_text("")
    check_writable(tmp_path / "file")
    check_writable(tmp_path / "new")
    with pytest.raises(IsADirectoryError):
        check_writable(tmp_path)
    with pytest.raises(FileNotFoundError, match="missing"):
        check_writable(tmp_path / "missing" / "file")
    with pytest.raises(NotADirectoryError):
        check_writable(tmp_path / "file" / "file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_check_writable_without_permission_raises(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        check_writable(tmp_path / "file")


@pytest.mark.parametrize("moment", ["creation", "use", "removal"])
def test_temporary_directory_interrupted_is_removed(tmp_path, monkeypatch, moment):
    def interrupted(call):
        def wrapper(*arguments, **options):
            monkeypatch.undo()
            call(*arguments, **options)
            raise KeyboardInterrupt

        return wrapper

    def use():
        with temporary_directory(tmp_path) as directory:
            (directory / "file").write_text("x")
            if moment == "use":
                raise KeyboardInterrupt

    if moment == "creation":
        monkeypatch.setattr("pathlib.Path.mkdir", interrupted(Path.mkdir))
    if moment == "removal":
        # The signal arrives when the directory is partly removed.
        monkeypatch.setattr("shutil.rmtree", interrupted(lambda path: (path / "file").unlink()))
    with pytest.raises(KeyboardInterrupt):
        use()
    assert not list(tmp_path.iterdir())


HOLD = """
import sys, time
from tieralloc._common.files import temporary_directory
with temporary_directory(sys.argv[1]) as directory:
    (directory / "slow.tier").write_text("rows")
    print(directory, flush=True)
    time.sleep(600)
"""


def test_temporary_directory_of_killed_process_is_removed_by_next(tmp_path):
    others = [tmp_path / name for name in ("tieralloc-temp-notes", "tieralloc-0123456789abcdef")]
    for other in others:
        other.mkdir()
    (tmp_path / "tieralloc-temp-0123456789abcdef").symlink_to(others[0])
    before = set(tmp_path.iterdir())
    arguments = [sys.executable, "-c", HOLD, tmp_path]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        held = Path(process.stdout.readline().strip())
        with temporary_directory(tmp_path) as own:
            assert (held / "slow.tier").read_text() == "rows"
            assert set(tmp_path.iterdir()) == before | {held, own}
        assert held.exists()
        process.kill()
    assert held.exists()
    with temporary_directory(tmp_path) as own:
        assert set(tmp_path.iterdir()) == before | {own}
    assert set(tmp_path.iterdir()) == before


def test_file_system_of_kernel_directories_has_kind():
    assert file_system_of("/proc/self").kind == "proc"
    assert file_system_of("/sys/kernel").kind == "sysfs"
    assert not file_system_of("/proc").in_memory


def test_file_system_of_directory_is_nearest_mount(tmp_path):
    file_system = file_system_of(tmp_path)
    assert tmp_path.resolve().is_relative_to(file_system.mount_point)
    assert os.stat(file_system.mount_point).st_dev == os.stat(tmp_path).st_dev


def test_default_directory_with_tmpdir_is_tmpdir(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert default_directory() == tmp_path


def test_default_directory_without_tmpdir_is_on_disk(monkeypatch):
    monkeypatch.delenv("TMPDIR", raising=False)
    if file_system_of(default_directory()).in_memory:
        pytest.skip("no usual directory is on a disk")
    monkeypatch.setattr("tempfile.tempdir", "/dev/shm")
    assert not file_system_of(default_directory()).in_memory


def test_direct_read_us_times_reads_or_raises_as_open(tmp_path):
    with (tmp_path / "probe").open("w+b") as file:
        reserved = can_reserve(file.fileno(), 1 << 20)
        assert os.fstat(file.fileno()).st_blocks * 512 >= (1 << 20) * reserved
        try:
            assert direct_read_us(file.fileno()) > 0
        except OSError as error:
            with pytest.raises(OSError, match=re.escape(error.strerror)):
                os.open(tmp_path / "probe", os.O_RDONLY | os.O_DIRECT)
