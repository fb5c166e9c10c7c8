"""Updates beside baselines: quick runs of all scenarios, and updates by all adapters."""

import numpy as np
import pytest

from bench.peers.adapter import BaselineFailedError
from bench.scenery.results import read_json, write_json
from bench.updates import scenarios
from bench.updates.__main__ import main
from bench.updates.scenarios import QUICK, Setting
from bench.updates.stores import KINDS, MemmapToUpdate, TierallocToUpdate


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """Return the content of the result file of a quick run."""
    out = tmp_path_factory.mktemp("updates")
    directory = tmp_path_factory.mktemp("disk")
    arguments = ["--quick", "--dir", str(directory), "--out", str(out)]
    assert main(arguments) == 0
    return read_json(out / "updates.json")


def test_quick_run_measures_all_stores_in_all_cases(quick):
    possible = {kind.name for kind in KINDS if kind.refusal() is None}
    assert possible >= {"tieralloc", "numpy.memmap"}
    assert len(quick["durable"]) == 3 * len(possible)
    for record in quick["durable"]:
        assert record["rows_per_second"] > 0
        assert record["store"] in possible
        assert (record["store"] == "numpy.memmap") <= (record["times_memmap"] == 1)
    assert {record["store"] for record in quick["serving"]} == possible


def test_quick_run_beside_serving_updates_only_in_busy_windows(quick):
    for record in quick["serving"]:
        assert 0 < record["p50_quiet_us"] <= record["p99_quiet_us"]
        assert 0 < record["p50_updates_us"] <= record["p99_updates_us"]
        assert 0 < record["updates_per_second"] < 2 * QUICK.updates_per_second


def test_quick_run_opens_a_killed_store(quick):
    assert [record["updated_rows"] for record in quick["reopen"]] == list(QUICK.killed_rows)
    assert all(0 <= record["updates_kept"] <= 1 for record in quick["reopen"])


def test_show_prints_the_kept_tables(quick, tmp_path, capsys):
    write_json(tmp_path / "updates.json", quick)
    assert main(["--show", "--out", str(tmp_path)]) == 0
    assert "| one call, one sync " in capsys.readouterr().out


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    return Setting(QUICK, tmp_path_factory.mktemp("rows"))


@pytest.mark.parametrize("kind", KINDS)
def test_adapter_serves_updates_before_and_after_reopening(kind, setting):
    if kind.refusal() is not None:
        pytest.skip(kind.refusal())
    rows, values = setting.draw(100, seed=1)
    with setting.open(kind) as adapter:
        before = scenarios._values(adapter, rows)
        assert not np.array_equal(before, values)
        adapter.update(rows[:50], values[:50])
        adapter.update(rows[50:], values[50:])
        adapter.sync()
        np.testing.assert_array_equal(scenarios._values(adapter, rows), values)
    with setting.open(kind) as adapter:
        np.testing.assert_array_equal(scenarios._values(adapter, rows), values)


class Forgetful(MemmapToUpdate):
    """Ignores updates."""

    def update(self, rows, values):
        pass


def test_lost_updates_are_an_error(setting):
    with pytest.raises(BaselineFailedError, match=r"numpy\.memmap: updates are lost"):
        scenarios._durable_rows_per_second(setting, Forgetful, 500, False, turn=7)


def test_draw_returns_distinct_rows_by_seed(setting):
    rows, _ = setting.draw(1000, seed=0)
    assert len(np.unique(rows)) == 1000
    assert not np.array_equal(rows, setting.draw(1000, seed=1)[0])


def test_closed_store_keeps_all_updates(setting):
    with setting.open(TierallocToUpdate) as adapter:
        rows, values = setting.draw(500, seed=3)
        adapter.update(rows, values)
    _, found = scenarios._open_seconds(adapter.path, setting.budget, rows)
    np.testing.assert_array_equal(found, values)
