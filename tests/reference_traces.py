"""Real traces, where they lie beside the checkout."""

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
        pytest.skip(f"the reference traces are not in {TRACES} (TIERALLOC_TRACES says where)")
    return read(path)
