"""What the scenarios of a run share: workloads, datasets, and servers that are ready."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.peers.adapter import Adapter, BaselineFailedError
from bench.peers.serving import CgroupServer, Server
from bench.peers.settings import Settings
from bench.peers.workloads import Dataset, Workload, make_workload, map_rows, pool
from bench.scenery.cgroups import CgroupRefusedError
from bench.scenery.processes import ChildFailedError


@dataclass
class Experiment:
    """A run in a directory on the disk that is measured."""

    settings: Settings
    directory: Path
    traces: Path
    refused: dict[str, str] = field(default_factory=dict)  # what was left out, and why
    _workloads: dict[str, Workload] = field(default_factory=dict)
    _datasets: dict[tuple[int, ...], Dataset] = field(default_factory=dict)

    def workloads(self, *keys: str) -> Iterator[Workload]:
        """Make workloads, each once; those of missing traces are refused."""
        for key in keys:
            try:
                if key not in self._workloads:
                    self._workloads[key] = make_workload(key, self.settings, self.traces)
                yield self._workloads[key]
            except FileNotFoundError:
                self.refused[f"workload {key}"] = f"no {key}.npz in the directory of --traces"

    def dataset(self, workload: Workload) -> Dataset:
        """Return the rows of a workload, in files written once."""
        rows = workload.table_rows
        if rows not in self._datasets:
            directory = self.directory / f"tables{len(self._datasets)}"
            dataset = Dataset(directory, rows, self.settings.dim, workload.unused_rows)
            dataset.write()
            self._datasets[rows] = dataset
        return self._datasets[rows]

    @contextmanager
    def servers(
        self, kinds: Sequence[type[Adapter]], workload: Workload, budget: int | None = None
    ) -> Iterator[list[Any]]:
        """Open servers, checked to return the sums of the rows; those that fail are refused."""
        with ExitStack() as stack:
            opened = []
            for kind in kinds:
                try:
                    server = self._open(kind, workload, budget)
                    stack.callback(server.close)
                    self._check(server, workload)
                    opened.append(server)
                except (BaselineFailedError, CgroupRefusedError, ChildFailedError) as error:
                    at = "" if budget is None else f", {workload.name}, {budget >> 20} MiB"
                    reason = str(error).replace(f"{self.directory}/", "")
                    self.refused[f"{kind.name}{at}"] = reason
            yield opened

    def _open(self, kind: type[Adapter], workload: Workload, budget: int | None) -> Any:
        reason = kind.refusal()
        if reason is not None:
            raise BaselineFailedError(reason)
        dataset = self.dataset(workload)
        if kind.needs_cgroup and budget is not None:
            return CgroupServer(kind, dataset, budget, workload)
        server = Server(kind(dataset, budget), workload)
        server.open()
        return server

    def _check(self, server: Any, workload: Workload) -> None:
        """Compare the results of a small batch with the sums of the rows, bit for bit."""
        dataset, batch = self.dataset(workload), workload.check
        rows = np.array(map_rows(dataset.path, dataset.dim)[dataset.rows_of(batch)])
        if not np.array_equal(server.results(batch), pool(rows, batch.offsets)):
            raise BaselineFailedError(f"{server.name} returns wrong sums")
