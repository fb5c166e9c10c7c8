"""Ranks that die or stall at random moments: the others name them; torchrun starts them again."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")


def import_torchrec():
    from bench.dlrm.model import refusal

    if refusal() is not None:
        pytest.skip(refusal(), allow_module_level=True)


import_torchrec()

from distributed_support import FAILING, Ranks, fail_rank, sharded  # noqa: E402


@pytest.mark.parametrize("seed", range(4))
def test_killed_rank_is_named_by_the_others(tmp_path, seed):
    choose = random.Random(seed)
    victim, delay = choose.randrange(3), choose.uniform(0, 0.5)
    for named, text, wrong in fail_rank(tmp_path, victim, signal.SIGKILL, delay):
        assert named == (victim,), text
        assert f"rank {victim}: died or stalled" in text
        assert wrong == 0


def test_killed_rank_with_the_rendezvous_store_is_named(tmp_path):
    for named, text, wrong in fail_rank(tmp_path, 0, signal.SIGKILL, 0.1, tcp=True):
        assert named == (0,), text
        assert "the rendezvous store of the group has gone with it" in text
        assert wrong == 0


def start_late(rank, folder, seconds):
    """Start a rank after some time; return the ranks that an error names."""
    from tieralloc.distributed import RankError

    time.sleep(seconds[rank])
    try:
        store, _ = sharded(FAILING, Path(folder) / f"{rank}.tier", rank, timeout=1.0)
    except RankError as error:
        return error.ranks, str(error)
    store.close()
    return (), ""


def test_rank_that_does_not_start_is_named_by_the_others(tmp_path):
    with Ranks(3) as ranks:
        ranks.begin(start_late, tmp_path, [0, 0, 30])
        for rank in (0, 1):
            named, text = ranks.result(rank)
            assert named == (2,), text
        ranks.processes[2].kill()


def test_stalled_rank_is_named_by_the_others(tmp_path):
    for named, text, wrong in fail_rank(tmp_path, 0, signal.SIGSTOP, 0.1):
        assert named == (0,), text
        assert "expected an answer within 3 s" in text
        assert wrong == 0


SCRIPT = """
import os, signal, sys
from pathlib import Path
import torch.distributed as dist
from distributed_support import FAILING, FAILING_BATCH, jagged, sharded

dist.init_process_group("gloo")
rank, attempt = dist.get_rank(), int(os.environ["TORCHELASTIC_RESTART_COUNT"])
store, module = sharded(FAILING, f"{rank}.tier", rank, timeout=3)
for number in range(20):
    module(jagged(FAILING_BATCH))
    if (rank, attempt, number) == (1, 0, 10):
        store.flush()
        os.kill(os.getpid(), signal.SIGKILL)
Path(f"{rank}.attempt").write_text(str(attempt))
store.close()
dist.destroy_process_group()
"""


def test_torchrun_restarts_the_group_on_its_files(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--max-restarts", "1"]
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1]), *sys.path]
    done = subprocess.run(
        [*command, "--nproc-per-node", "3", "script.py"],
        cwd=tmp_path,
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join(paths),
            # The store of torchrun keeps the addresses of the ranks of the first attempt.
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    served = [(tmp_path / f"{rank}.attempt").read_text() for rank in range(3)]
    assert served == ["1", "1", "1"]
