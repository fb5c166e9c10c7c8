"""The experiment shared by all scenarios of a run: workloads, datasets and open adapters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.peers.adapter import Adapter, BaselineFailedError
from bench.peers.settings import Settings
from bench.peers.workloads import Dataset, Workload, make_workload
from bench.scenery.cgroups import CgroupRefusedError, MemoryCgroup
from bench.scenery.processes import Child, ChildFailedError
from tieralloc.tools.replay.baselines import map_rows, pool

_WORKING_BYTES = 2 << 20  # buffers of a call
_PAGE_TABLE_SHARE = 512  # 8 bytes for each 4 KiB mapped


@dataclass
class Experiment:
    """A run in a directory on the disk that is measured."""

    settings: Settings
    directory: Path
    traces: Path
    refused: dict[str, str] = field(default_factory=dict)  # skipped parts, and why
    _workloads: dict[str, Workload] = field(default_factory=dict)
    _datasets: dict[tuple[int, ...], Dataset] = field(default_factory=dict)

    def workloads(self, *keys: str) -> Iterator[Workload]:
        """Create workloads, each once; workloads of missing traces are refused."""
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
            self._datasets[rows] = Dataset(directory, rows, self.settings.dim)
            self._datasets[rows].write()
        return self._datasets[rows]

    @contextmanager
    def adapters(
        self, kinds: Sequence[type[Adapter]], workload: Workload, budget: int | None = None
    ) -> Iterator[list[Any]]:
        """Open adapters, checked to return the sums of the rows; failing adapters are refused."""
        dataset, batch = self.dataset(workload), workload.check
        rows = np.array(map_rows(dataset.path, dataset.dim)[dataset.rows_of(batch)])
        with ExitStack() as stack:
            adapters = []
            for kind in kinds:
                try:
                    if (reason := kind.refusal()) is not None:
                        raise BaselineFailedError(reason)
                    in_cgroup = kind.needs_cgroup and budget is not None
                    opener = _in_cgroup if in_cgroup else opened
                    adapter = stack.enter_context(opener(kind, dataset, workload, budget))
                    difference = np.abs(adapter.results(batch) - pool(rows, batch.offsets))
                    max_bag = int(np.diff(batch.offsets).max())
                    if difference.max() > kind.tolerance * max_bag:
                        raise BaselineFailedError("it returns wrong sums")
                    adapters.append(adapter)
                except (BaselineFailedError, CgroupRefusedError, ChildFailedError) as error:
                    at = "" if budget is None else f", {workload.name}, {budget >> 20} MiB"
                    reason = str(error).replace(f"{self.directory}/", "")
                    self.refused[f"{kind.name}{at}"] = reason
            yield adapters


@contextmanager
def opened(kind: type[Adapter], *arguments: Any) -> Iterator[Adapter]:
    """Open an adapter in this process."""
    adapter = kind(*arguments)
    adapter.prepare()
    adapter.open()
    try:
        yield adapter
    finally:
        adapter.close()


class _Remote:
    """An adapter in a child process, whose memory and page cache a cgroup limits."""

    def __init__(self, child: Child, group: MemoryCgroup) -> None:
        self.name = child.name
        self._child, self._group = child, group

    def __getattr__(self, method: str) -> Any:
        return partial(self._child.call, method)

    def dram_bytes(self) -> int:
        """Return the max bytes charged to the cgroup."""
        return self._group.peak


@contextmanager
def _in_cgroup(
    kind: type[Adapter], dataset: Dataset, workload: Workload, budget: int
) -> Iterator[_Remote]:
    """Open an adapter in a child that joins a cgroup with the budget and working memory as limit.

    Before, it makes files, receives its batches and serves one: the limit applies to memory of
    `open` and later calls.
    """
    page_tables = dataset.rows * dataset.row_bytes // _PAGE_TABLE_SHARE
    with ExitStack() as stack:
        group = MemoryCgroup(budget + _WORKING_BYTES + page_tables)
        stack.callback(group.close)
        child = Child(kind.name, _prepared, (kind, dataset, workload, budget))
        stack.callback(child.close)
        group.set("cgroup.procs", child.pid)
        child.call("open")
        yield _Remote(child, group)


def _prepared(kind: type[Adapter], dataset: Dataset, workload: Workload, budget: int) -> Adapter:
    with opened(kind, dataset, workload, budget) as adapter:
        adapter.results(workload.warm[0])
    adapter.prepare()
    return adapter
