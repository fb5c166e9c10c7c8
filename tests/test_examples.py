"""The examples run, and their outputs are right."""

import re
import sys
from pathlib import Path
from subprocess import run

import pytest

pytest.importorskip("torch")

EXAMPLES = Path(__file__).parents[1] / "examples"


def run_example(name, *options):
    """Run an example; return what it prints."""
    command = [sys.executable, EXAMPLES / name, *options]
    done = run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_ngram_embeddings_equal_those_in_memory():
    pytest.importorskip("safetensors")
    out = run_example("ngram_embedding.py", "--rows", "20000", "--tokens", "64")
    assert out.count("as in memory: True") == 3


def test_server_switches_and_resizes_without_a_wrong_reply():
    pytest.importorskip("prometheus_client")
    out = run_example("serve.py", "--seconds", "4", "--rate", "25")
    assert re.search(r"/switch .*: status 200", out)
    assert "/resize 8MiB: status 200" in out
    whole = re.search(r"in whole +(\d+) +\S+ +\S+ +(\d+) +(\d+) +(\d+) ", out)
    calls, first, second, errors = map(int, whole.groups())
    assert calls == first + second
    assert min(first, second) > 0
    assert errors == 0


def test_sharded_dlrm_serves_the_clicks_of_the_model_in_memory(tmp_path):
    from bench.dlrm.model import refusal

    if refusal() is not None:
        pytest.skip(refusal())
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    command += ["2", EXAMPLES / "sharded_dlrm.py", "--folder", tmp_path]
    for _ in range(2):  # the second time each rank reopens its file
        done = run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        served = re.findall(r"rank (\d): 20 batches of 32, clicks within", done.stdout)
        assert sorted(served) == ["0", "1"]
        assert "reads of the slowest rank: 1.0" in done.stdout
