"""Short campaigns, and checks of the model and of the recorded disk that campaigns rely on."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from .__main__ import CAMPAIGNS
from .campaign import MissingError, end_child, enter_private_mounts, in_child, mounted, start_child
from .fuse_disk import RecordingDisk, loop_device
from .model import MIXTURE, STORE_VERSION, Call, judge, make_rows, versions_of
from .power import Images, file_system, format_disks, has_file_system

MINUTES = "0.2"


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_campaign_finds_no_broken_promise(name):
    run = subprocess.run(
        [sys.executable, "-m", "tests.torture", name, "--minutes", MINUTES, "--seed", "1"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if run.returncode == 77:
        pytest.skip(run.stdout.splitlines()[-1])
    assert run.returncode == 0, run.stdout + run.stderr


def test_versions_of_mixed_rows_are_mixtures():
    rows = np.arange(5)
    values = make_rows(2, rows, [1, 2, 3, 0, 4], 80)
    assert versions_of(2, rows, values).tolist() == [1, 2, 3, 0, 4]
    values[1, 40:] = make_rows(2, [1], 3, 80)[0, 40:]
    values[4] = make_rows(2, [3], 4, 80)[0]
    assert versions_of(2, rows, values).tolist() == [1, MIXTURE, 3, 0, MIXTURE]
    assert versions_of(1, rows, values)[0] == MIXTURE


CREATE = Call(0, "create", 0, size=(4, 16))
LOAD = Call(1, "load", 0, np.arange(4), (4, 16))
UPDATE = Call(2, "update", 0, np.array([1, 2]), (4, 16))
DELTA = Call(1, "delta", parts=(Call(1, "delta", 0, np.array([1, 2]), (4, 16)),))
JUDGED = {
    "all there": (3, [2, 3, 3, 2], []),
    "promised update lost": (3, [2, 2, 2, 2], ["row lost"]),
    "update in progress, none": (2, [2, 2, 2, 2], []),
    "update in progress, all": (2, [2, 3, 3, 2], []),
    "update in progress, in part": (2, [2, 3, 2, 2], ["update not atomic"]),
    "row of another call": (3, [2, 3, 3, 3], ["row of no call"]),
    "load in progress, in part": (1, [0, 2, 0, 2], []),
    "mixture": (2, [2, MIXTURE, 2, 2], ["row torn"]),
    "table lost": (1, None, ["table lost"]),
}


@pytest.mark.parametrize(("promised", "versions", "kinds"), JUDGED.values(), ids=JUDGED)
def test_judge_names_broken_promises(promised, versions, kinds):
    found = {} if versions is None else {"table 0": np.array(versions)}
    promises = np.arange(3) < promised
    broken = judge([CREATE, LOAD, UPDATE], np.ones(3, dtype=bool), promises, found)
    assert [kind for kind, _ in broken] == kinds


@pytest.mark.parametrize(
    ("promised", "rows", "version", "kinds"),
    [
        (2, [0, 2, 2, 0], 2, []),
        (1, [0, 2, 2, 0], 2, []),
        (1, [0, 0, 0, 0], 0, []),
        (1, [0, 2, 2, 0], 0, ["delta not atomic"]),
        (1, [0, 2, 0, 0], 2, ["delta not atomic"]),
        (1, [0, 0, 0, 0], 2, ["delta not atomic"]),
        (2, [0, 0, 0, 0], 0, ["row lost", "row lost"]),
    ],
)
def test_judge_names_broken_deltas(promised, rows, version, kinds):
    found = {"table 0": np.array(rows), STORE_VERSION: np.array([version])}
    promises = np.arange(2) < promised
    broken = judge([CREATE, DELTA], np.ones(2, dtype=bool), promises, found)
    assert [kind for kind, _ in broken] == kinds


def synced_file_images(kind, content):
    """Return, for images of a disk, whether a synced and an unsynced file are whole there."""
    enter_private_mounts()
    whole = []
    with tempfile.TemporaryDirectory() as folder, mounted("tmpfs", folder, "tmpfs"):
        folder = Path(folder)
        disk = RecordingDisk(content)
        data = os.urandom(1 << 20)

        def write():
            disk.forget_in_child()
            for name in ("synced", "unsynced"):
                with open(files / name, "wb") as file:
                    file.write(data)
                    if name == "synced":
                        os.fsync(file)
            parent = os.open(files, os.O_RDONLY)
            os.fsync(parent)
            synced = disk.clock()
            os.sync()
            return synced, disk.clock()

        with file_system(disk, folder, kind) as files:
            outcome = end_child(start_child(write), 60)
        assert outcome.kind == "returned", outcome
        images, rng = Images(content, disk.records), np.random.default_rng(1)
        for cut in range(*outcome.value):
            images.write(folder / "image", cut, rng)
            with loop_device(folder / "image") as device, mounted(device, files, kind):
                paths = [files / "synced", files / "unsynced"]
                whole.append([path.exists() and path.read_bytes() == data for path in paths])
    return np.array(whole)


def test_images_keep_synced_files_only():
    try:
        content = format_disks()["ext4"]
    except (MissingError, KeyError) as error:
        pytest.skip(f"no ext4: {error}")
    outcome = in_child(lambda: has_file_system("ext4", content))
    if outcome.kind != "returned":
        pytest.skip(str(outcome).strip().splitlines()[-1])
    outcome = in_child(lambda: synced_file_images("ext4", content))
    assert outcome.kind == "returned", outcome
    synced, unsynced = outcome.value.T
    assert synced.all()
    assert not unsynced.all()
