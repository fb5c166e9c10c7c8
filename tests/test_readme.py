"""The code and the commands in README.md run as printed."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_readme_has_examples_of_file_memory_and_torch():
    assert [("import torch" in block) for block in BLOCKS] == [False, False, True]
    assert [("NumaMemory" in block) for block in BLOCKS] == [False, True, False]


@pytest.mark.parametrize("block", BLOCKS, ids=["quick start", "slow memory", "torch"])
def test_readme_code_runs_as_printed(block, tmp_path):
    if "import torch" in block and importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    result = subprocess.run(
        [sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert bool(list(tmp_path.glob("*.tier"))) == (".tier" in block)


def test_readme_commands_exist():
    commands = set(re.findall(r"`tieralloc (\w+)", README.read_text()))
    text = subprocess.run(
        [sys.executable, "-m", "tieralloc", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert commands
    assert all(re.search(rf"^\s+{name}\b", text, re.MULTILINE) for name in commands)
