"""A partition into pages by the package mtkahypar, in a process of its own.

Mt-KaHyPar (Gottesbüren, Heuer, Maas, Sanders and Schlag, "Scalable high-quality hypergraph
partitioning", ACM Transactions on Algorithms 20, 2024) minimises the sum over edges of weight *
(pages of the edge - 1): the pages that samples read. It holds the GIL, so a process of its own
keeps progress and Ctrl-C alive.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import IO, TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tieralloc.tools.arrange.hypergraph import Hypergraph

__all__ = ["is_installed", "partition"]


def is_installed() -> bool:
    """Return whether the package is installed."""
    return importlib.util.find_spec("mtkahypar") is not None


def partition(graph: Hypergraph, rows_per_page: int, seed: int) -> NDArray[np.int64]:
    """Return the page of each node.

    Raises
    ------
    OSError
        If the process fails.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "tieralloc.tools.arrange.mtkahypar_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            settings = [len(graph.rows), rows_per_page, seed]
            for values in (settings, graph.starts, graph.pins, graph.weights):
                _write(process.stdin, np.asarray(values, dtype=np.int64))
            process.stdin.close()
            answer = process.stdout.read()
        except BrokenPipeError:
            answer = b""
        finally:
            if sys.exc_info()[0] is not None:
                process.kill()
        if process.wait() != 0:
            raise OSError(
                f"mtkahypar: the process ended with status {process.returncode}; expected 0 "
                "(--method greedy needs no package)"
            )
    return np.frombuffer(answer, dtype=np.int64)


def _write(target: IO[bytes], values: NDArray[np.int64]) -> None:
    target.write(len(values).to_bytes(8, "little"))
    target.write(values.tobytes())
