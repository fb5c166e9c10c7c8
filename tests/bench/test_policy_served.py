"""Simulated beside served: a line for each policy and trace."""

import pytest

torch = pytest.importorskip("torch")

from bench.policies import served  # noqa: E402
from tieralloc import trace as traces  # noqa: E402
from tieralloc.policies.registry import trainer  # noqa: E402
from tieralloc.simulate import simulate  # noqa: E402


def test_each_policy_is_simulated_and_served(tmp_path, capsys):
    path, models = tmp_path / "generated.npz", tmp_path / "models"
    traces.write(traces.generate(num_samples=600, name="generated"), path)
    for name in ("recmg", "recmg-paper"):
        directory = models / "generated-01234567" / f"{name}-seed0"
        trainer(name)(traces.read(path), directory, [served.FRACTION], epochs=1)
    options = ["--traces", path, "--models", models, "--out", tmp_path, "--jobs", 1]
    assert served.main([str(option) for option in options]) == 0
    text = (tmp_path / "served.md").read_text()
    assert text in capsys.readouterr().out
    cells = {
        line.split(" | ")[1]: [float(cell) for cell in line.strip("| ").split(" | ")[2:]]
        for line in text.splitlines()
        if line.startswith("| generated")
    }
    assert list(cells) == list(served.POLICIES)
    for simulated, at_work, ratio, *_ in cells.values():
        assert ratio == pytest.approx(at_work / simulated, abs=1e-3)
    (expected,) = simulate(traces.read(path), ["lru"], [served.FRACTION])
    assert cells["lru"][0] == pytest.approx(expected["miss_ratio"], abs=1e-4)
