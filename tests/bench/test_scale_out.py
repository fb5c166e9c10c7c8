"""A quick run of the benchmark of ranks on one machine."""

import pytest

pytest.importorskip("torch")


def test_quick_run_reads_evenly_and_sends_the_planned_bytes(capsys):
    from bench import scale_out
    from bench.dlrm.model import refusal

    if refusal() is not None:
        pytest.skip(refusal())
    assert scale_out.main(["--quick", "--ranks", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "|" in line]
    ranks = [line for line in cells if len(line) == 5 and line[0].isdigit()]
    assert len(ranks) == 2
    assert max(float(line[4]) for line in ranks) <= 1.2
    figures = {line[0]: line[1] for line in cells if len(line) == 2}
    payload, sent = (
        float(figures[name].replace(",", ""))
        for name in (
            "bytes of a batch, all ranks: payload by plan",
            "bytes of a batch on loopback",
        )
    )
    assert sent >= payload > 0
