"""The code and the commands of README.md and of the pages in docs/ run as printed."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = sorted(
    page
    for page in [README, *(ROOT / "docs").glob("*.md")]
    if re.search(r"^```(python|bash)$", page.read_text(), re.MULTILINE)
)
BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
#: The `python` and `tieralloc` of commands are this Python's.
SHELL = f'python() {{ {sys.executable} "$@"; }}\ntieralloc() {{ python -m tieralloc "$@"; }}\n'


def script_of(page):
    """Return all code of a page as one Python script."""
    blocks = ["import subprocess"]
    for language, code in BLOCK.findall(page.read_text()):
        command = f"subprocess.run(['bash', '-euc', {SHELL + code!r}], check=True)"
        blocks.append(code if language == "python" else command)
    return "\n".join(blocks)


def run(script, folder):
    """Run a script in a folder; it has to succeed."""
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_pages_with_code_are_found():
    names = {page.name for page in PAGES}
    assert {"README.md", "concepts.md", "tutorial.md", "tuning.md", "cli.md"} <= names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_of_page_runs_as_printed(page, tmp_path):
    script = script_of(page)
    for name in ("torch", "torchrec"):
        if f"import {name}" in script and importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    run(script, tmp_path)
    if page == README:
        run(script, tmp_path)  # the second time too


@pytest.mark.parametrize("page", [README, ROOT / "docs" / "cli.md"], ids=lambda page: page.stem)
def test_commands_of_page_exist(page):
    commands = set(re.findall(r"`tieralloc ([\w-]+)", page.read_text()))
    text = subprocess.run(
        [sys.executable, "-m", "tieralloc", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert all(re.search(rf"^\s+{name}\b", text, re.MULTILINE) for name in commands)
    if page != README:
        assert commands == set(re.findall(r"^    ([\w-]+) ", text, re.MULTILINE))


def test_readme_is_short():
    assert len(README.read_text().split()) < 700


@pytest.mark.parametrize(
    "page", [README, *(ROOT / "docs").glob("*.md")], ids=lambda page: page.stem
)
def test_links_of_page_exist(page):
    for link in re.findall(r"\]\((?!https?:)([^)#\s]+)", BLOCK.sub("", page.read_text())):
        assert (page.parent / link).exists(), link
