"""The examples run, and their outputs are right."""

import re
import sys
from pathlib import Path
from subprocess import run

import pytest

pytest.importorskip("torch")
pytest.importorskip("prometheus_client")

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_server_switches_and_resizes_without_a_wrong_reply():
    command = [sys.executable, EXAMPLES / "serve.py", "--seconds", "4", "--rate", "25"]
    done = run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"/switch .*: status 200", done.stdout)
    assert "/resize 8MiB: status 200" in done.stdout
    whole = re.search(r"in whole +(\d+) +\S+ +\S+ +(\d+) +(\d+) +(\d+) ", done.stdout)
    calls, first, second, errors = map(int, whole.groups())
    assert calls == first + second
    assert min(first, second) > 0
    assert errors == 0
