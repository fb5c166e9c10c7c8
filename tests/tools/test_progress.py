"""Progress of long work: bars on a terminal, lines on a pipe."""

import sys
import time

import pytest

from tieralloc._common import progress as _progress


class Terminal:
    """A stderr that is a terminal."""

    encoding = "utf-8"

    def __init__(self):
        self.text = ""

    def isatty(self):
        return True

    def write(self, text):
        self.text += text

    def flush(self):
        pass


def test_bar_appears_after_the_delay(monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with _progress.bar("replaying", 100, "rows") as done:
        done(50)
        assert terminal.text == ""
    terminal.text = ""
    monkeypatch.setattr(_progress, "_DELAY", 1e-9)
    with _progress.bar("replaying", 100, "rows") as done:
        while terminal.text == "":  # tqdm draws ten times a second
            done(0)
            time.sleep(0.01)
        done(50)
        time.sleep(0.2)
        done(1)
    assert "replaying:  51%" in terminal.text


def test_bar_shows_the_status(monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setattr(_progress, "_DELAY", 1e-9)
    with _progress.bar("training", 100, "chunks") as report:
        while "loss 0.5" not in terminal.text:
            report(0, "loss 0.5")
            time.sleep(0.01)
    assert "training:   0%" in terminal.text


def test_waiting_shows_the_elapsed_time(monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setattr(_progress, "_DELAY", 0.01)
    with _progress.waiting("generating"):
        while "generating (00:00)" not in terminal.text:
            time.sleep(0.01)
    assert terminal.text.endswith("\r")


@pytest.mark.parametrize("absent", ["terminal", "tqdm"])
def test_without_terminal_or_tqdm_lines_appear(monkeypatch, capsys, absent):
    if absent == "tqdm":
        monkeypatch.setattr(sys, "stderr", terminal := Terminal())
        monkeypatch.setitem(sys.modules, "tqdm", None)
    with _progress.bar("replaying", 100, "rows") as done:
        done(50)  # soon after the start: no line
    monkeypatch.setattr(_progress, "_INTERVAL", 0)
    with _progress.bar("training", 100, "chunks") as report:
        report(50, "epoch 1 of 2, loss 0.5")
    monkeypatch.setattr(_progress, "_DELAY", 0.01)
    with _progress.waiting("drawing"):
        time.sleep(0.1)
    shown = terminal.text if absent == "tqdm" else capsys.readouterr().err
    first, second, *rest = shown.splitlines()
    assert first == "training: 50%, 0 s, epoch 1 of 2, loss 0.5"
    assert second == "training: done, 0 s, epoch 1 of 2, loss 0.5"
    assert set(rest) == {"drawing: 0 s"}


def test_ticking_prints_lines_of_one_long_step(monkeypatch, capsys):
    monkeypatch.setattr(_progress, "_DELAY", 0.01)
    monkeypatch.setattr(_progress, "_INTERVAL", 0.02)
    with _progress.bar("arranging", 10, "lookups") as report, _progress.ticking(report):
        printed = ""
        while printed.count("arranging: 0%") < 2:
            time.sleep(0.01)
            printed += capsys.readouterr().err
