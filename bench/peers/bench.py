"""What the lines share: files, loads, peers that are ready to serve, progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bench.peers import loads
from bench.peers.dataset import Dataset
from bench.peers.kinds import PEERS
from bench.peers.kinds.memmap import map_file
from bench.peers.loads import Batch, Load
from bench.peers.peer import OneTable, PeerFailedError
from bench.peers.runner import CgroupRunner, Runner
from bench.peers.settings import Settings
from bench.scenery import cgroups

_CHECKED_BAGS = 64


@dataclass
class Bench:
    """A run in a directory on the disk to be measured, with some of the peers."""

    settings: Settings
    directory: Path
    chosen: Sequence[str] = tuple(PEERS)
    traces: Path = loads.TRACES
    refused: dict[str, str] = field(default_factory=dict)  # peers, loads and tools, and why
    _loads: dict[str, Load] = field(default_factory=dict)
    _datasets: dict[tuple[int, ...], Dataset] = field(default_factory=dict)

    def refuse(self, what: str, reason: str) -> None:
        """Note what was left out, and why; paths are nobody's business."""
        self.refused[what] = reason.replace(f"{self.directory}/", "")

    def load(self, key: str) -> Load | None:
        """Make a load, once; None where that is refused here."""
        reason = loads.refusal(key, self.traces)
        if reason is not None:
            self.refuse(f"load ({key})", reason)
            return None
        if key not in self._loads:
            self._loads[key] = loads.make_load(key, self.settings, self.traces)
        return self._loads[key]

    def dataset(self, load: Load) -> Dataset:
        """Return the rows that a load asks for, in files made once."""
        if load.table_rows not in self._datasets:
            name = f"tables{len(self._datasets)}"
            dataset = Dataset(
                self.directory / name, load.table_rows, self.settings.dim, load.unused_rows
            )
            with self.steps(f"writing {dataset.rows:,} rows", 1) as tick:
                dataset.write()
                tick()
            self._datasets[load.table_rows] = dataset
        return self._datasets[load.table_rows]

    @contextmanager
    def open(self, key: str, load: Load, budget: int | None) -> Iterator[Any]:
        """Open a peer for a load, checked to return what torch does; None where it is refused.

        Yields
        ------
        Runner, CgroupRunner or None
        """
        runner = self._start(key, load, budget)
        if runner is None:
            yield None
            return
        runner.open()
        try:
            self._check(runner, load)
            yield runner
        finally:
            runner.close()

    def _start(self, key: str, load: Load, budget: int | None) -> Runner | CgroupRunner | None:
        if key not in self.chosen:
            return None
        kind = PEERS[key]
        reason = kind.refusal()
        if reason is None and kind.needs_cgroup and budget is not None:
            reason = cgroups.refusal()
        if reason is not None:
            self.refuse(key, reason)
            return None
        dataset = self.dataset(load)
        if kind.needs_cgroup and budget is not None:
            return CgroupRunner(kind, dataset, budget, load)
        peer = kind(dataset, budget)
        peer.prepare()
        return Runner(peer, load)

    def _check(self, runner: Runner | CgroupRunner, load: Load) -> None:
        """Compare a small call's result with sums made from the file, exactly."""
        dataset = self.dataset(load)
        batch = _first_bags(load, _CHECKED_BAGS)
        one_table = OneTable(dataset)
        rows = np.array(map_file(dataset.path, dataset.dim)[one_table.rows_of(batch)])
        if not np.array_equal(runner.results(batch), one_table.pool(rows, batch.offsets)):
            raise PeerFailedError(f"{runner.name} returns other sums than the rows have")

    @contextmanager
    def steps(self, what: str, total: int) -> Iterator[Callable[[], Any]]:
        """Show progress on a terminal; yields what counts a step."""
        with tqdm(total=total, desc=what, leave=False, disable=None) as bar:
            yield bar.update


def _first_bags(load: Load, count: int) -> Batch:
    """Return the first bags of each table of a batch, as a batch."""
    batch = load.warm[0]
    tables = len(load.table_rows)
    bags = (len(batch.offsets) - 1) // tables
    lengths = np.diff(batch.offsets).reshape(tables, bags)[:, :count]
    pieces = [
        batch.indices[batch.offsets[table * bags] :][: lengths[table].sum()]
        for table in range(tables)
    ]
    offsets = np.concatenate(([0], np.cumsum(lengths.ravel())))
    return Batch(np.concatenate(pieces), offsets)
