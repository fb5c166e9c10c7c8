"""The emulated slow tiers of bench.numa: a quick run, and the break-even latency."""

import pytest

from bench.numa.__main__ import main
from bench.numa.emulated import ADMISSIONS, LINES, break_even
from bench.scenery.results import read_json


def made_up(a, b, misses):
    """Records of a policy that takes a + misses x L ns, against b + L without a fast tier."""
    records = []
    for extra in (1, 10, 20, 40):
        none, own = b + LINES * extra, a + misses * LINES * extra
        for policy, took, ratio in (("none", none, 1), ("lru", own, misses)):
            record = {"ns_per_lookup": took, "beside_none": none / took, "miss_ratio": ratio}
            record |= {"extra_ns": extra, "admission": "always", "policy": policy}
            records.append(record)
    return records


@pytest.mark.parametrize(("a", "b", "misses"), [(60, 30, 0.2), (100, 20, 0.5), (45, 40, 0.1)])
def test_break_even_is_where_both_take_the_same(a, b, misses):
    derived, measured = break_even(made_up(a, b, misses), "lru")
    exact = (a - b) / (1 - misses) / LINES
    assert derived == pytest.approx(exact)
    if exact > 1:
        assert measured == pytest.approx(exact, rel=0.1)


def test_a_policy_that_never_pays_has_no_measured_break_even():
    derived, measured = break_even(made_up(1000, 10, 0.5), "lru")
    assert (derived > 40, measured) == (True, None)


def test_a_quick_run_has_every_latency_policy_and_admission(tmp_path, capsys):
    pytest.importorskip("torch")
    main(["--quick", "--out", str(tmp_path)])
    page = capsys.readouterr().out
    content = read_json(tmp_path / "emulated.json")
    records = content["records"]
    assert content["emulated"] is True
    assert {(r["extra_ns"], r["admission"], r["policy"]) for r in records} == {
        (x, a, p) for x in (20, 150) for a in ADMISSIONS for p in ("none", "lru", "recmg")
    }
    main(["--show", "--out", str(tmp_path)])
    shown = capsys.readouterr().out
    assert page.endswith(shown)
    assert "Emulated" in shown
    assert str(tmp_path) not in f"{shown}{content}"
