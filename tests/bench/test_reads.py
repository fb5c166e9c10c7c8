"""The benchmark of device reads runs, and its learned orders read less."""

import pytest
from reference_traces import reference

from bench import reads
from tieralloc.tools.arrange import mtkahypar


def test_quick_run_prints_each_line(capsys):
    assert reads.main(["--quick"]) == 0
    printed = capsys.readouterr().out
    for line in reads.LINES:
        assert f"| {line.policy}, {line.rows}, {line.order} order" in printed
    for name in reads.REPRESENTATIONS:
        assert f"| {name}" in printed


@pytest.mark.parametrize(("name", "bound"), [("diginetica", 0.76), ("trivago", 0.79)])
def test_learned_order_reads_less_of_a_real_trace(name, bound, monkeypatch, tmp_path):
    monkeypatch.setattr(reads, "FRACTIONS", (0.05,))
    monkeypatch.setattr(reads, "REPRESENTATIONS", {})
    monkeypatch.setattr(reads, "ROW_BYTES", {"float32": 4 * reads.DIM})
    monkeypatch.setattr(reads, "LINES", reads.LINES[:2])
    trace = reference(name)
    found = [record["device_reads_per_request"] for record in reads.measure(trace, tmp_path, None)]
    assert len(found) == 2
    assert found[1] / found[0] < bound + (0 if mtkahypar.is_installed() else 0.03)
