"""Second halves that are not as the first: what is changed, what stays, and the command."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bench.policies import adversity  # noqa: E402
from tieralloc import trace as traces  # noqa: E402
from tieralloc.policies.recmg.learning import train_policy  # noqa: E402


@pytest.fixture(scope="module")
def made():
    return traces.generate(num_samples=600, name="generated")


@pytest.mark.parametrize("name", adversity.CHANGES)
def test_the_first_half_stays_and_the_second_looks_up_as_much_of_something_else(made, name):
    found = adversity.changed(made, adversity.CHANGES[name])
    np.testing.assert_array_equal(found.lengths, made.lengths)
    middle = int(made.lengths[:, : made.num_samples // 2].sum())
    before, after = made.accesses(), found.accesses()
    np.testing.assert_array_equal(after[:middle], before[:middle])
    assert (after[middle:] != before[middle:]).mean() > 0.3
    again = adversity.changed(made, adversity.CHANGES[name])
    np.testing.assert_array_equal(again.accesses(), after)


def test_changes_are_what_they_say():
    random = np.random.default_rng(0)
    lookups, rows = random.geometric(0.1, 1600) % 50, 50
    counts = np.sort(np.bincount(lookups, minlength=rows))
    for change in (adversity.renamed, adversity.shuffled):
        found = change(lookups, rows, random)
        np.testing.assert_array_equal(np.sort(np.bincount(found, minlength=rows)), counts)
    found = adversity.scanned(lookups, rows, random)
    assert (np.diff(found[:100]) % rows == 1).all()
    np.testing.assert_array_equal(found[100:200], lookups[100:200])
    assert np.bincount(adversity.uniform(lookups, rows, random), minlength=rows).min() > 0
    popular = np.sort(np.bincount(adversity.zipf(lookups, rows, random), minlength=rows))
    assert popular[-1] > 4 * popular[rows // 2]


def test_what_was_trained_is_replayed_on_each(tmp_path, monkeypatch, capsys, made):
    path, models = tmp_path / "generated.npz", tmp_path / "models"
    traces.write(made, path)
    train_policy(made, models / "generated-01234567" / "recmg-seed0", [0.1], epochs=1)
    monkeypatch.setattr(adversity, "CHANGES", {"renamed": adversity.renamed})
    monkeypatch.setattr(adversity, "FRACTIONS", (0.1,))
    options = ["--traces", path, "--models", models, "--out", tmp_path, "--jobs", 1]
    assert adversity.main([str(option) for option in options]) == 0
    text = (tmp_path / "adversity.md").read_text()
    assert text in capsys.readouterr().out
    (line,) = [line for line in text.splitlines() if line.startswith("| generated renamed")]
    assert all(0.5 < float(cell) < 2 for cell in line.strip(" |").split(" | ")[1:])


def test_it_says_what_to_do_first(tmp_path, capsys):
    assert adversity.main(["--traces", str(tmp_path), "--models", str(tmp_path)]) == 1
    assert "make policies" in capsys.readouterr().out
