"""The benchmark of n-gram tables runs."""

import json

from bench import ngram


def test_quick_run_has_cold_and_warm_calls(tmp_path, capsys):
    assert ngram.main(["--quick", "--out", str(tmp_path)]) == 0
    content = json.loads((tmp_path / "ngram.json").read_text())
    cases = [record["case"] for record in content["records"]]
    assert cases[:2] == ["cold, 1 row", "cold, 1 tokens"]
    assert cases[-1] == "warm, 32 tokens"
    assert all(record["tieralloc, us"] > 0 for record in content["records"])
    assert content["full"]["full_size_rows"] == 384_000_000
    assert "numpy.memmap" in content["refused"] or "numpy.memmap, us" in content["records"][0]
    assert "seconds to open" in capsys.readouterr().out
