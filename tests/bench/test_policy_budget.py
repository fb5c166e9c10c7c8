"""recmg with what it remembers paid for: the table, and budgets that are too small."""

import pytest

torch = pytest.importorskip("torch")

from tieralloc.policies.recmg.learning import train_policy  # noqa: E402

from bench.policies import budget  # noqa: E402
from tieralloc import trace as traces  # noqa: E402
from tieralloc.tools.simulate import simulate  # noqa: E402


def test_each_policy_is_simulated_within_each_budget(tmp_path, capsys):
    path, models = tmp_path / "generated.npz", tmp_path / "models"
    traces.write(traces.generate(num_samples=3000, name="generated"), path)
    directory = models / "generated-01234567" / "recmg-seed0"
    train_policy(traces.read(path), directory, [0.1], epochs=1)
    options = ["--traces", path, "--models", models, "--out", tmp_path, "--jobs", 1]
    assert budget.main([str(option) for option in options]) == 0
    text = (tmp_path / "budget.md").read_text()
    assert text in capsys.readouterr().out
    lines = {
        line.strip("| ").split(" | ")[0]: line.strip("| ").split(" | ")[1:]
        for line in text.splitlines()[4:]
        if line.startswith("| ") and "---" not in line
    }
    assert all(0 < float(one) < 1 for policy in budget.SIMPLE for one in lines[policy])
    assert all(0 < float(one) < 1 for one in lines["recmg-caching, as much as pays off"])
    # What s3fifo itself holds with the bytes that it is given.
    (held,) = simulate(traces.read(path), ["s3fifo"], [budget.FRACTIONS[0]])
    assert float(lines["s3fifo"][0]) == pytest.approx(held["miss_ratio"], abs=1e-4)
    assert lines["recmg, 256 bytes a row"][0] == "-"


def test_it_says_what_to_do_first(tmp_path, capsys):
    assert budget.main(["--traces", str(tmp_path), "--models", str(tmp_path)]) == 1
    assert "make policies" in capsys.readouterr().out
