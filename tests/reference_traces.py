"""Real traces in a folder next to the checkout, or in $TIERALLOC_TRACES."""

import os
from pathlib import Path

import pytest

from tieralloc.trace import read

TRACES = Path(
    os.environ.get("TIERALLOC_TRACES", Path(__file__).parents[1] / ".." / "shared" / "traces")
)


def reference(name):
    path = TRACES / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"{path}: no such trace; set TIERALLOC_TRACES to the folder of the traces")
    return read(path)
