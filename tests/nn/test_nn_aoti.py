"""A package of AOTInductor serves from a store: in Python, and in a C++ program on the core."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

EXAMPLE = Path(__file__).parents[2] / "examples" / "aoti"


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_package_serves_from_python_and_from_cpp(tmp_path):
    # Both compile for half a minute: side by side.
    make = subprocess.Popen(
        ["make", "-j2", "-C", EXAMPLE, f"PYTHON={sys.executable}", f"BUILD={tmp_path}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    export = subprocess.run(
        [sys.executable, "-W", "ignore", EXAMPLE / "export.py", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    built, _ = make.communicate()
    assert make.returncode == 0, built
    assert export.returncode == 0, export.stderr
    serve = [tmp_path / "serve", tmp_path / "model.pt2", tmp_path / "rows.tier"]
    served = subprocess.run(serve, capture_output=True, text=True, check=False)
    assert served.returncode == 0, served.stderr
    expected = [float(line) for line in export.stdout.splitlines()]
    scores = [float(line) for line in served.stdout.splitlines()]
    assert len(set(expected)) > 8
    assert scores == pytest.approx(expected, rel=1e-5, abs=1e-6)

    other = tmp_path / "other.tier"  # the model has the name of another file
    shutil.copy(tmp_path / "rows.tier", other)
    refused = subprocess.run([*serve[:2], other], capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "store 'rows.tier': not attached" in refused.stderr
