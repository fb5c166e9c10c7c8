"""Choices in recmg changed one at a time."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bench.policies import ablations  # noqa: E402
from tieralloc import trace as traces  # noqa: E402
from tieralloc.policies.recmg.learning import train_policy  # noqa: E402


def test_what_was_trained_is_replayed_under_each_variant(tmp_path, monkeypatch, capsys):
    path, models = tmp_path / "generated.npz", tmp_path / "models"
    traces.write(traces.generate(num_samples=600, name="generated"), path)
    trained = models / "generated-01234567" / "recmg-seed0"
    train_policy(traces.read(path), trained, [0.1], epochs=1)
    chosen = [ablations.VARIANTS[0], ablations.VARIANTS[-1]]
    monkeypatch.setattr(ablations, "VARIANTS", chosen)
    options = ["--traces", path, "--models", models, "--out", tmp_path, "--jobs", 1]
    assert ablations.main([str(option) for option in options]) == 0
    text = (tmp_path / "ablations.md").read_text()
    assert text in capsys.readouterr().out
    lines = [line.split(" | ")[1:] for line in text.splitlines() if " 0." in line]
    assert len(lines) == 2
    ratios = np.array([float(cell.split()[0]) for line in lines for cell in line])
    assert ((ratios > 0) & (ratios < 1)).all()


def test_it_says_what_to_do_first(tmp_path, capsys):
    assert ablations.main(["--traces", str(tmp_path), "--models", str(tmp_path)]) == 1
    assert "make policies" in capsys.readouterr().out
