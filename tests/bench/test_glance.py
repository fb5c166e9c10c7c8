"""The chart of the README shows its kept result."""

import json

import pytest

pytest.importorskip("torch")
image = pytest.importorskip("matplotlib.image")

from bench.glance import CHART, RESULT, draw  # noqa: E402


def pixels(result, path):
    draw(result, path)
    return image.imread(path)


def test_chart_shows_kept_result(tmp_path):
    result = json.loads(RESULT.read_text())
    drawn, kept = pixels(result, tmp_path / "chart.png"), image.imread(CHART)
    assert drawn.shape == kept.shape
    assert abs(drawn - kept).mean() < 0.001
    result["records"][3]["p99_ms"] *= 4
    assert abs(pixels(result, tmp_path / "other.png") - kept).mean() > 0.002
