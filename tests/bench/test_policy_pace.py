"""What advice costs at several paces: that each is replayed, and the table."""

import pytest

torch = pytest.importorskip("torch")

from bench.policies import pace  # noqa: E402
from tieralloc import trace as traces  # noqa: E402
from tieralloc.policies.recmg.learning import train_policy  # noqa: E402


def test_each_pace_is_replayed(tmp_path, capsys):
    path, models = tmp_path / "generated.npz", tmp_path / "models"
    traces.write(traces.generate(num_samples=600, name="generated"), path)
    directory = models / "generated-01234567" / "recmg-seed0"
    train_policy(traces.read(path), directory, [0.1], rounds=1)
    options = ["--traces", path, "--models", models, "--out", tmp_path]
    assert pace.main([str(option) for option in options]) == 0
    text = (tmp_path / "pace.md").read_text()
    assert text in capsys.readouterr().out
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if "| every" in line]
    assert len(lines) == len(pace.PACES)
    assert all(0 < float(ratio) < 1 and float(speed) > 0 for _, ratio, speed in lines)


def test_it_says_what_to_do_first(tmp_path, capsys):
    assert pace.main(["--traces", str(tmp_path), "--models", str(tmp_path)]) == 1
    assert "make policies" in capsys.readouterr().out
