"""Ranks that die or stall at random moments: the others name them; torchrun starts them again."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")


def import_torchrec():
    from bench.dlrm.model import refusal

    if refusal() is not None:
        pytest.skip(refusal(), allow_module_level=True)


import_torchrec()

from distributed_support import Case, Ranks, TableSpec, as_arrays, jagged, sharded  # noqa: E402

TABLES = (
    TableSpec("item", 20, ("item",), ((0, 0, 9), (1, 9, 15), (2, 15, 20))),
    TableSpec("user", 8, ("user",), ((1, 0, 8),)),
    TableSpec("city", 8, ("city",), ((2, 0, 8),)),
)
BATCH = {"item": [[0, 13, 19], []], "user": [[7, 7, 1], [2]], "city": [[], [3, 5]]}
CASE = Case(TABLES, ())
TIMEOUT = 3.0
HANG = 60  # seconds after which a rank counts as hung, far above twice the timeout


def serve_until_failure(rank, case, folder):
    """Serve the same batch until a rank fails; return the ranks that the error names, its text."""
    from tieralloc.distributed import RankError

    store, module = sharded(case, Path(folder) / f"{rank}.tier", rank, timeout=TIMEOUT)
    batch = jagged(BATCH)
    expected = as_arrays(module(batch))
    (Path(folder) / f"ready-{rank}").touch()
    wrong = 0
    try:
        while True:
            for result in module.stream([batch] * 5):
                found = as_arrays(result)
                wrong += not all(np.array_equal(found[key], expected[key]) for key in expected)
    except RankError as error:
        first = error
    with pytest.raises(RankError) as again:
        module(batch)
    store.close()
    return again.value.ranks, str(first), wrong


def fail_rank(folder, victim, number, delay, **options):
    """Serve on three ranks, and send a signal to one; return the results of the others."""
    with Ranks(3, **options) as ranks:
        ranks.begin(serve_until_failure, CASE, folder)
        while len(list(folder.glob("ready-*"))) < 3:
            time.sleep(0.01)
            assert all(process.is_alive() for process in ranks.processes)
        time.sleep(delay)
        os.kill(ranks.processes[victim].pid, number)
        results = []
        for rank in {0, 1, 2} - {victim}:
            assert ranks.pipes[rank].poll(HANG), f"rank {rank} hangs"
            results.append(ranks.result(rank))
        ranks.processes[victim].kill()
    return results


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


def test_stalled_rank_is_named_by_the_others(tmp_path):
    for named, text, wrong in fail_rank(tmp_path, 0, signal.SIGSTOP, 0.1):
        assert named == (0,), text
        assert "expected an answer within 3 s" in text
        assert wrong == 0


SCRIPT = """
import os, signal, sys
import torch.distributed as dist
from test_sharded_failures import CASE, TIMEOUT, BATCH
from distributed_support import jagged, sharded

dist.init_process_group("gloo")
rank, attempt = dist.get_rank(), int(os.environ["TORCHELASTIC_RESTART_COUNT"])
store, module = sharded(CASE, f"{rank}.tier", rank, timeout=TIMEOUT)
for number in range(20):
    module(jagged(BATCH))
    if (rank, attempt, number) == (1, 0, 10):
        store.flush()
        os.kill(os.getpid(), signal.SIGKILL)
print(f"rank {rank} served in attempt {attempt}", flush=True)
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
    assert sorted(done.stdout.splitlines()) == [
        f"rank {rank} served in attempt 1" for rank in range(3)
    ]
