"""A caching model trained on the counted accesses, beside one that is not."""

import pytest

torch = pytest.importorskip("torch")

from bench.policies import hindsight  # noqa: E402
from tieralloc import trace as traces  # noqa: E402
from tieralloc.policies.recmg.learning import train_policy  # noqa: E402


def test_both_are_trained_and_simulated(tmp_path, capsys):
    path, models = tmp_path / "generated.npz", tmp_path / "models"
    traces.write(traces.generate(num_samples=600, name="generated"), path)
    directory = models / "generated-01234567" / "recmg-seed0"
    train_policy(traces.read(path), directory, [0.1], epochs=1)
    options = ["--traces", path, "--models", models, "--out", tmp_path, "--jobs", 1]
    assert hindsight.main([str(option) for option in options]) == 0
    text = (tmp_path / "hindsight.md").read_text()
    assert text in capsys.readouterr().out
    lines = [line for line in text.splitlines() if line.startswith(("| recmg", "| trained"))]
    assert len(lines) == len(hindsight.TRAINED)
    assert all(line.count("%") == 1 + len(hindsight.FAST_FRACTIONS) for line in lines)
