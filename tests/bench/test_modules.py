"""The benchmark of embedding modules runs and prints a line per way to serve them."""

import pytest

pytest.importorskip("torch")

from bench import modules


def test_quick_run_prints_a_line_per_way(capsys):
    assert modules.main(["--quick"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines if line.startswith("| ")][2:] == list(
        modules.WAYS
    )
