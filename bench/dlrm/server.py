"""A server: one thread that runs the model on requests, back to back or as they arrive."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

import tieralloc as ta
from bench.dlrm.baselines import LRU, Baseline
from bench.dlrm.lookahead import Lookahead
from bench.dlrm.model import COLLECTION, build, put_into, write_tables
from bench.dlrm.requests import Requests
from bench.dlrm.settings import Cores
from tieralloc.tools.replay.arrivals import poisson_arrivals, wait_until

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LEAD_NS = 10_000_000  # from the start of the receiving thread to time zero of arrivals
_POLICY_THREAD = "tieralloc-plan"  # prefix of the names of the policy's threads
# Of a row within a budget: of recmg, a little more than it needs; of index and metadata.
_POLICY_BYTES = 224
_INDEX_BYTES = 24
_POLICY_START_S = 10.0  # max, until its thread has its name
_COUNTS = (
    *("calls", "lookups", "hits", "on_demand_fetches", "evictions"),
    *("prefetches_issued", "prefetches_useful", "prefetches_late"),
    *("on_demand_device_reads", "prefetch_device_reads"),
)


@dataclass(frozen=True)
class Served:
    """A turn: int64 nanoseconds of each request, CPU nanoseconds and counters of all."""

    due: NDArray[np.int64]  # its arrival; in a closed loop its beginning
    begun: NDArray[np.int64]
    ended: NDArray[np.int64]
    prefetching: NDArray[np.int64]  # time in calls that prefetch queued requests
    embedding: NDArray[np.int64]  # time in the embedding module
    cpu_ns: dict[str, int]
    counts: dict[str, int]  # since the warm-up


def start_server(
    requests: Requests,
    baseline: Baseline,
    directory: Path,
    fast_rows: int,
    budget: int,
    policy: Path | None,
    order: Path | None,
    cores: Cores,
) -> Server:
    """Create a server in this child process, pinned to cores."""
    os.sched_setaffinity(0, cores.all)  # threads inherit it
    torch.set_num_threads(1)
    # torchrec warns of its own code at the first call of each model.
    logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)
    path = directory / f"{os.getpid()}.tier"
    server = Server(requests, baseline, path, fast_rows, budget, policy, order)
    os.sched_setaffinity(0, cores.serving)
    server.pin_policy(cores.policy)
    return server


class Server:
    """Serves the requests of a trace from a slow tier in a new file.

    The fast tier has `fast_rows`, or `budget` bytes. `policy` is the directory of a learned policy,
    and `order` an order of rows, if the baseline has one.
    """

    def __init__(
        self,
        requests: Requests,
        baseline: Baseline,
        path: Path,
        fast_rows: int,
        budget: int,
        policy: Path | None,
        order: Path | None,
    ) -> None:
        self._requests = requests
        self._baseline = baseline
        self._path = path
        trace, settings = requests.trace, requests.settings
        self._names = list(trace.table_names)
        rows = trace.num_embeddings.tolist()
        sizes = (self._names, rows, settings.embedding_dim, settings.seed)
        self._model = build(*sizes)
        self.store: ta.TieredStore | None = None
        if baseline.memory != "torch in DRAM":
            write_tables(self._model, path, self._names, baseline.dtype, order)
            is_in_dram = baseline.memory == "store in DRAM"
            memory = None
            if baseline.trained and baseline.is_budgeted:
                row_bytes = settings.embedding_dim * (4 if baseline.dtype == "float32" else 1)
                memory = budget * _POLICY_BYTES // (_POLICY_BYTES + row_bytes + _INDEX_BYTES)
            size = {"fast_rows": sum(rows) if is_in_dram else fast_rows}
            if baseline.is_budgeted:
                size = {"fast_bytes": budget - (memory or 0)}
            self.store = ta.TieredStore(
                slow=ta.File(path, mode="r+", warm_restart_interval=None),
                policy=LRU if is_in_dram or baseline.trained else baseline.policy,
                **size,
            )
            self._model = put_into(build(*sizes, empty=True), self.store, self._names)
            if is_in_dram:
                for table in self.store.tables.values():
                    table.prefetch(np.arange(table.num_embeddings))
                    table.lookup(np.arange(table.num_embeddings))
            elif baseline.trained:
                assert policy is not None
                self.store.use_policy(
                    ta.LearnedPolicy(
                        policy,
                        name=baseline.policy,
                        auto_pause=baseline.auto_pause,
                        **({} if memory is None else {"memory": memory}),
                    )
                )
        self._dense = torch.from_numpy(requests.dense)
        self._embedding_ns = self._began_ns = self._warm_up_lookups = 0
        collection = self._model.get_submodule(COLLECTION)
        collection.register_forward_pre_hook(self._note_begin)
        collection.register_forward_hook(self._note_end)

    def pin_policy(self, cores: tuple[int, ...]) -> None:
        """Pin the policy's threads to cores."""
        if self.store is None or not self.store._core.policy_stats()["state"]:
            return
        deadline = time.monotonic() + _POLICY_START_S
        while not (threads := _policy_threads()):
            if time.monotonic() > deadline:
                raise RuntimeError(f"no thread {_POLICY_THREAD} in {_POLICY_START_S:g} s")
            time.sleep(0.001)
        for thread in threads:
            os.sched_setaffinity(thread, cores)

    def warm(self) -> NDArray[np.float32]:
        """Serve the warm-up; return the last scores, which must be the same for all."""
        scores = np.empty(0, dtype=np.float32)
        for batch in self._requests.warm_up:
            scores = self._score(0, *batch).numpy().ravel().copy()
        if self._baseline.queued:
            self._prefetch(0)  # the first one traces the model
        if self.store is not None:
            self._warm_up_lookups = self.store.stats().lookups
            self.store.reset_stats()
        return scores

    def serve(self, numbers: range, rate: float | None) -> Served:
        """Serve counted requests back to back, or with Poisson arrivals at a rate."""
        arrivals = None
        if rate is not None:
            seed = self._requests.settings.seed + numbers.start
            arrivals = poisson_arrivals(len(numbers), rate, seed)
        times = np.zeros((5, len(numbers)), dtype=np.int64)
        gc.collect()
        gc.disable()
        before = self._cpu()
        try:
            self._serve(numbers, arrivals, times)
        finally:
            gc.enable()
        cpu = {name: max(0, now - before[name]) for name, now in self._cpu().items()}
        counts = {}
        if self.store is not None:
            stats = self.store.stats()
            counts = {name: getattr(stats, name) for name in _COUNTS}
        return Served(*times, cpu, counts)

    def _serve(
        self, numbers: range, arrivals: NDArray[np.int64] | None, times: NDArray[np.int64]
    ) -> None:
        lookahead = Lookahead(self._prefetch, self._baseline.queued, numbers)
        never = threading.Event()
        start = perf_counter_ns() + _LEAD_NS
        with self._receiving(numbers, arrivals, start, lookahead):
            for place, number in enumerate(numbers):
                if arrivals is None:
                    due = begun = perf_counter_ns()
                    lookahead.serving(number)
                else:
                    lookahead.serving(number)  # while the server is idle
                    due = start + int(arrivals[place])
                    wait_until(due, never)
                    begun = perf_counter_ns()
                prefetched = perf_counter_ns()
                self._embedding_ns = 0
                self._score(number, *self._requests.counted[number])
                ended = perf_counter_ns()
                times[:, place] = due, begun, ended, prefetched - begun, self._embedding_ns

    @contextmanager
    def _receiving(
        self, numbers: range, arrivals: NDArray[np.int64] | None, start: int, lookahead: Lookahead
    ) -> Iterator[None]:
        """Announce requests as they arrive, in a separate thread; in a closed loop at once."""
        if arrivals is None or not self._baseline.queued:
            lookahead.arrived(numbers.stop)
            yield
            return
        ended = threading.Event()

        def receive() -> None:
            for number, arrival in zip(numbers, arrivals.tolist(), strict=True):
                left = start + arrival - perf_counter_ns()
                if left > 0 and ended.wait(left * 1e-9):
                    return
                lookahead.arrived(number + 1)

        thread = threading.Thread(target=receive, name="receiver", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _score(self, number: int, indices: NDArray[np.int64], offsets: NDArray[np.int64]) -> Any:
        """Run the model on a batch, with the dense features of a counted request."""
        with torch.inference_mode():
            return self._model(*self._inputs(number, indices, offsets))

    def _inputs(self, number: int, indices: NDArray[np.int64], offsets: NDArray[np.int64]) -> Any:
        features = KeyedJaggedTensor(
            keys=self._names, values=torch.from_numpy(indices), offsets=torch.from_numpy(offsets)
        )
        samples = (len(offsets) - 1) // len(self._names)
        return self._dense[number, :samples], features

    def _prefetch(self, number: int) -> None:
        ta.nn.prefetch(self._model, *self._inputs(number, *self._requests.counted[number]))

    def _note_begin(self, *_: Any) -> None:
        self._began_ns = perf_counter_ns()

    def _note_end(self, *_: Any) -> None:
        self._embedding_ns += perf_counter_ns() - self._began_ns

    def _cpu(self) -> dict[str, int]:
        """Return the CPU time of the thread that serves, of the policy's, and of all others."""
        policy = sum(map(_thread_cpu_ns, _policy_threads()))
        serving = time.thread_time_ns()
        others = time.process_time_ns() - serving - policy
        return {"serving": serving, "policy": policy, "background": others}

    def about(self) -> dict[str, Any]:
        """Return the DRAM in use and, with a learned policy, its state at the end."""
        if self.store is None:
            rows = int(self._requests.trace.num_embeddings.sum())
            return {"dram_bytes": rows * self._requests.settings.embedding_dim * 4}
        stats, policy = self.store.stats(), self.store._core.policy_stats()
        about: dict[str, Any] = {"dram_bytes": stats.dram.total_bytes}
        if policy["state"]:
            lookups = max(1, self._warm_up_lookups + stats.lookups)
            about["policy_stats"] = {
                "state": policy["state"],
                "active": list(dict.fromkeys(tier["active"] for tier in policy["tiers"])),
                "observed_share": round(policy["accesses_observed"] / lookups, 4),
                "lag": policy["policy_lag"]["mean"],
            }
        return about

    def close(self) -> None:
        if self.store is not None:
            self.store.close()
        self._path.unlink(missing_ok=True)


def _policy_threads() -> list[int]:
    """Return the ids of the policy's threads, which the core starts."""
    threads = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # the thread has just ended
            if (task / "comm").read_text().startswith(_POLICY_THREAD):
                threads.append(int(task.name))
    return threads


def _thread_cpu_ns(thread: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/self/task/{thread}/schedstat").read_text().split()[0])
    return 0
