"""Verdicts, the table and the JSON of the comparison with peers."""

import json

from bench.peers.findings import Finding, Line, at_least, at_most, number, table, write_json
from bench.peers.measure import Spread


def found(value, target):
    return Finding("x", Spread(value, value, value, 5), target)


def test_a_floor_is_reached_from_above_and_a_ceiling_from_below():
    assert found(1.0, at_least(1.0)).reached is True
    assert found(0.99, at_least(1.0)).reached is False
    assert found(1.2, at_most(1.2)).reached is True
    assert found(1.21, at_most(1.2)).reached is False


def test_nothing_is_judged_without_a_target_or_a_measurement():
    assert found(1.0, None).reached is None
    assert Finding("x", None, at_least(1.0), note="no fio").reached is None


def test_numbers_keep_three_digits_that_matter():
    assert [number(value) for value in (0, 0.01234, 1.234, 98.76, 1234567.8)] == [
        "0",
        "0.0123",
        "1.23",
        "98.8",
        "1,234,568",
    ]


def test_the_table_says_what_was_measured_asked_for_and_reached():
    line = Line(1, "Hits", [found(0.5, at_least(1.0)), Finding("y", note="no device")])
    text = table([line])
    assert "1. Hits" in text
    assert "0.5 x [0.5 to 0.5]" in text
    assert "≥ 1" in text
    assert "NO" in text
    assert "not measured" in text
    assert "no device" in text


def test_the_json_holds_every_finding(tmp_path):
    finding = Finding(
        "bags",
        Spread(1.23456, 1.1, 1.3, 5),
        at_least(1.0),
        figures={"rows/s": 123456.789, "peer": "LMDB"},
    )
    path = tmp_path / "results" / "f.json"
    write_json(path, [Line(3, "Mixed", [finding])], {"machine": {"cores": 2}})
    content = json.loads(path.read_text())
    assert content["machine"] == {"cores": 2}
    (line,) = content["lines"]
    assert (line["line"], line["title"]) == (3, "Mixed")
    assert line["findings"] == [
        {
            "what": "bags",
            "unit": "x",
            "value": {"median": 1.235, "low": 1.1, "high": 1.3, "count": 5},
            "target": "≥ 1",
            "reached": True,
            "figures": {"rows/s": 123500.0, "peer": "LMDB"},
        }
    ]


def test_lines_of_the_same_machine_and_settings_stay_until_measured_anew(tmp_path):
    path = tmp_path / "results.json"
    about = {"machine": {"machine": "here"}, "settings": {"rows": 1}, "quick": False}

    def measure(number, value, **changed):
        finding = Finding("speed", Spread.of([value]))
        write_json(path, [Line(number, "a line", [finding])], about | changed)
        content = json.loads(path.read_text())
        return {one["line"]: one["findings"][0]["value"]["median"] for one in content["lines"]}

    assert measure(4, 1.5) == {4: 1.5}
    assert measure(2, 2.5) == {2: 2.5, 4: 1.5}
    assert measure(4, 3.5) == {2: 2.5, 4: 3.5}
    assert measure(2, 4.5, settings={"rows": 2}) == {2: 4.5}
    assert measure(3, 5.5, machine={"machine": "there"}) == {3: 5.5}
