"""The benchmark of restarts runs, and a warm restart misses less than a cold one."""

import json

from bench import restart


def test_quick_run_misses_less_warm_than_cold(tmp_path, capsys):
    assert restart.main(["--quick", "--out", str(tmp_path)]) == 0
    content = json.loads((tmp_path / "restart.json").read_text())
    assert [record["policy"] for record in content["misses"]] == list(restart.POLICIES)
    lru = content["misses"][0]
    assert lru["none"] == lru["warm"] < lru["cold"]
    assert all(record["rows_per_second"] > 0 for record in content["speed"])
    assert " lru |" in capsys.readouterr().out
