"""Simulated beside served: a line for each policy and trace."""

import pytest

torch = pytest.importorskip("torch")

from tieralloc.policies.registry import trainer  # noqa: E402

from bench.policies import served  # noqa: E402
from tieralloc import trace as traces  # noqa: E402
from tieralloc.tools.simulate import simulate  # noqa: E402


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
        tuple(line.strip("| ").split(" | ")[1:3]): line.strip("| ").split(" | ")[3:]
        for line in text.splitlines()
        if line.startswith("| generated")
    }
    assert list(cells) == [(str(n), name) for n in served.SAMPLES for name in served.POLICIES]
    for simulated, at_work, ratio, *_ in cells.values():
        assert float(ratio) == pytest.approx(float(at_work) / float(simulated), abs=1e-3)
    for (samples, policy), (simulated, at_work, *_, lag) in cells.items():
        assert (lag == "-") == (policy in ("lru", "s3fifo"))
        if lag != "-":
            continue
        (expected,) = simulate(
            traces.read(path), [policy], [served.FRACTION], batch_size=int(samples)
        )
        assert float(simulated) == pytest.approx(expected["miss_ratio"], abs=1e-4)
        assert float(at_work) == pytest.approx(float(simulated), rel=0.1)
