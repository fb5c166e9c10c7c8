"""Quick runs of the benchmarks of switches and of several processes."""

import json

from bench import processes, switch
from bench.scenery.results import from_columns


def test_quick_run_switches_under_load_and_misses_as_before(tmp_path):
    assert switch.main(["--quick", "--out", str(tmp_path)]) == 0
    content = json.loads((tmp_path / "switch.json").read_text())
    (load,) = content["load"]
    assert load["switches"] > 0 < load["calls_during"]
    misses = {record["policy"]: record for record in from_columns(content["misses"])}
    assert list(misses) == list(switch.POLICIES)
    assert abs(misses["lru"]["after"] - misses["lru"]["without"]) < 0.02


def test_quick_run_of_processes_prints_a_line_per_number(capsys):
    assert processes.main(["--quick"]) == 0
    lines = capsys.readouterr().out.splitlines()
    cells = [line.split("|") for line in lines if line.startswith("| ")]
    assert len(cells) == 1 + 1 + 5
    memory = [float(line[4]) for line in cells[2:]]
    assert memory[-1] > 2 * memory[0]
