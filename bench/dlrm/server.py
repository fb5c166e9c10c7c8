"""A server: one thread that runs the model on requests, one upon the other or as they arrive."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tieralloc.policies.recmg_paper.decisions import Inputs, decide_keep
from tieralloc.policies.recmg_paper.policy import Models, PaperPolicy
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

import tieralloc as ta
from bench.dlrm.contenders import Contender
from bench.dlrm.lookahead import Lookahead
from bench.dlrm.model import COLLECTION, build, put_into
from bench.dlrm.requests import Requests
from bench.dlrm.served import Served
from tieralloc.policy.planned import FALLBACK, PREFETCH_COST, PlannedPolicy
from tieralloc.tools.replay.arrivals import poisson_arrivals, wait_until

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LEAD_NS = 10_000_000  # from the start of who receives requests to time zero of arrivals
_POLICY_THREAD = "tieralloc-plan"  # prefix of the names of the policy's threads
_POLICY_START_S = 10.0  # at most, until its thread has its name


class PaperCachingPolicy(PaperPolicy):
    """`recmg-paper` without its prefetch model."""

    def decide(
        self, models: Models, accesses: NDArray[np.uint64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.uint64]]:
        """Compute which accesses' rows to keep; no row is prefetched."""
        inputs = Inputs.of(accesses, self.table_starts[:-1], self._space)
        return decide_keep(models.caching, inputs), np.empty(0, dtype=np.uint64)


class Server:
    """Serves the requests of a trace with a contender.

    Parameters
    ----------
    requests : Requests
        Of which the server's trace and settings are.
    contender : Contender
        Who holds the rows.
    path : path
        The file of the slow tier, which is made.
    fast_rows : int
        Capacity of the fast tier.
    policy : path or None
        Directory of a learned policy.
    """

    def __init__(
        self,
        requests: Requests,
        contender: Contender,
        path: Path,
        fast_rows: int,
        policy: Path | None,
    ) -> None:
        self.requests = requests
        self._contender = contender
        made, settings = requests.trace, requests.settings
        self._names = list(made.table_names)
        rows = made.num_embeddings.tolist()
        self._model = build(self._names, rows, settings.embedding_dim, settings.seed)
        self.store: ta.TieredStore | None = None
        if contender.memory != "torch in DRAM":
            self._put_into_store(path, sum(rows), fast_rows, policy)
        self._dense = torch.from_numpy(requests.dense)
        self._embedding_ns = 0
        self._began_ns = 0
        self._warm_up_lookups = 0
        collection = self._model.get_submodule(COLLECTION)
        collection.register_forward_pre_hook(self._note_begin)
        collection.register_forward_hook(self._note_end)

    def _put_into_store(self, path: Path, rows: int, fast_rows: int, policy: Path | None) -> None:
        with ta.TieredStore(path, fast_rows=1) as store:
            put_into(self._model, store, self._names, load=True)
        contender = self._contender
        in_dram = contender.memory == "store in DRAM"
        simple = "lru" if in_dram or contender.trained else contender.caching
        store = ta.TieredStore(
            path, mode="r+", fast_rows=rows if in_dram else fast_rows, policy=simple
        )
        self.store = store
        settings = self.requests.settings
        counts = self.requests.trace.num_embeddings.tolist()
        empty = build(self._names, counts, settings.embedding_dim, settings.seed, empty=True)
        self._model = put_into(empty, store, self._names, load=False)
        if in_dram:
            for table in store.tables.values():
                table.prefetch(np.arange(table.num_embeddings))
                table.lookup(np.arange(table.num_embeddings))
        elif contender.trained:
            self._use_policy(store, policy)

    def _use_policy(self, store: ta.TieredStore, policy: Path | None) -> None:
        contender = self._contender
        assert policy is not None
        if contender.own or contender.caching == "recmg":
            store.use_policy(
                ta.LearnedPolicy(policy, name=contender.name, auto_pause=contender.auto_pause)
            )
            return
        planned = PlannedPolicy(
            contender.name,
            PaperCachingPolicy.load(policy),
            FALLBACK,
            max_bytes=None,
            auto_pause=contender.auto_pause,
            prefetch_cost=PREFETCH_COST,
        )
        planned.start(store._core, store._rows_of_tables())

    def pin_policy(self, cores: Sequence[int]) -> None:
        """Have the policy's threads run on these cores alone."""
        if self.store is None or self.store._core.policy_stats() is None:
            return
        deadline = time.monotonic() + _POLICY_START_S
        while not (threads := _policy_threads()):
            if time.monotonic() > deadline:
                raise RuntimeError(f"no thread {_POLICY_THREAD} in {_POLICY_START_S:g} s")
            time.sleep(0.001)
        for thread in threads:
            os.sched_setaffinity(thread, cores)

    def warm(self) -> NDArray[np.float32]:
        """Serve what comes before the counted requests; return the last scores, for comparison."""
        scores = np.empty(0, dtype=np.float32)
        for batch in self.requests.warm_up:
            scores = self._score(0, *batch).numpy().ravel().copy()
        if self.store is not None:
            self._warm_up_lookups = self.store.stats()["lookups"]
            self.store.reset_stats()
        return scores

    def serve(self, numbers: range, rate: float | None) -> Served:
        """Serve some counted requests: one upon the other, or as they arrive at a rate."""
        arrivals = None if rate is None else self._arrivals(numbers, rate)
        noted = np.zeros((5, len(numbers)), dtype=np.int64)
        lookahead = Lookahead(self._prefetch, self._contender.ahead, numbers.start, numbers.stop)
        with _uncollected():
            before = self._cpu()
            self._serve(numbers, arrivals, lookahead, noted)
            after = self._cpu()
        return Served(
            *noted,
            cpu_ns={name: after[name] - before[name] for name in after},
            counts=self._counts(),
        )

    def _serve(
        self,
        numbers: range,
        arrivals: NDArray[np.int64] | None,
        lookahead: Lookahead,
        noted: NDArray[np.int64],
    ) -> None:
        never = threading.Event()
        start = perf_counter_ns() + (0 if arrivals is None else _LEAD_NS)
        with self._receiving(numbers, arrivals, start, lookahead):
            for place, number in enumerate(numbers):
                if arrivals is not None:
                    lookahead.serving(number)
                    due = start + int(arrivals[place])
                    wait_until(due, never)
                begun = perf_counter_ns()
                if arrivals is None:
                    due = begun
                    lookahead.serving(number)
                hinted = perf_counter_ns()
                self._embedding_ns = 0
                self._score(number, *self.requests.counted[number])
                ended = perf_counter_ns()
                noted[:, place] = due, begun, ended, hinted - begun, self._embedding_ns

    @contextmanager
    def _receiving(
        self,
        numbers: range,
        arrivals: NDArray[np.int64] | None,
        start: int,
        lookahead: Lookahead,
    ) -> Iterator[None]:
        """Tell the look-ahead of requests as they arrive, in a thread that takes them in."""
        if arrivals is None:
            lookahead.arrived(numbers.stop)
            yield
            return
        if not self._contender.ahead:
            yield
            return
        ended = threading.Event()

        def receive() -> None:
            for place, number in enumerate(numbers):
                left = start + int(arrivals[place]) - perf_counter_ns()
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

    def _arrivals(self, numbers: range, rate: float) -> NDArray[np.int64]:
        return poisson_arrivals(len(numbers), rate, self.requests.settings.seed + numbers.start)

    def _score(self, number: int, indices: NDArray[np.int64], offsets: NDArray[np.int64]) -> Any:
        """Run the model on a batch, with the dense features of a counted request."""
        features = KeyedJaggedTensor(
            keys=self._names, values=torch.from_numpy(indices), offsets=torch.from_numpy(offsets)
        )
        samples = (len(offsets) - 1) // len(self._names)
        with torch.inference_mode():
            return self._model(self._dense[number, :samples], features)

    def _prefetch(self, number: int) -> None:
        assert self.store is not None
        self.store.prefetch(*self.requests.counted[number])

    def _note_begin(self, *_: Any) -> None:
        self._began_ns = perf_counter_ns()

    def _note_end(self, *_: Any) -> None:
        self._embedding_ns += perf_counter_ns() - self._began_ns

    def _cpu(self) -> dict[str, int]:
        """CPU time so far: of the thread that serves, of the policy's, and of all others."""
        policy = sum(map(_thread_cpu_ns, _policy_threads()))
        serving = time.thread_time_ns()
        others = max(0, time.process_time_ns() - serving - policy)
        return {"serving": serving, "policy": policy, "fetching in the background": others}

    def _counts(self) -> dict[str, int]:
        if self.store is None:
            return {}
        stats = self.store.stats()
        names = (
            *("lookups", "hits", "on_demand_fetches", "evictions", "prefetches_issued"),
            *("prefetches_useful", "prefetches_late", "prefetches_useless", "prefetches_dropped"),
        )
        return {name: stats[name] for name in names}

    def about(self) -> dict[str, Any]:
        """Say what the store took and did in the end."""
        if self.store is None:
            rows = int(self.requests.trace.num_embeddings.sum())
            return {"dram_bytes": rows * self.requests.settings.embedding_dim * 4}
        stats = self.store.stats()
        dram = dict(stats["dram_bytes"])
        about = {
            "dram_bytes": dram.pop("total"),
            "dram": {name: size for name, size in dram.items() if size},
            "slow_tier": f"{stats['slow_tier']['kind']}: {stats['slow_tier']['engine']}",
            "read_us": stats["latency_ns"]["row_on_demand"]["p50"] / 1000,
        }
        policy = self.store._core.policy_stats()
        if policy is not None:
            lookups = self._warm_up_lookups + stats["lookups"]
            about["policy_stats"] = {
                **policy,
                "accesses_dropped": stats["accesses_dropped"],
                "observed_share": round(policy["accesses_observed"] / max(1, lookups), 4),
            }
        return about

    def close(self) -> None:
        if self.store is not None:
            self.store.close()


def _policy_threads() -> list[int]:
    """Return the ids of the policy's threads, which the core makes."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            if (task / "comm").read_text().startswith(_POLICY_THREAD):
                found.append(int(task.name))
    return found


def _thread_cpu_ns(thread: int) -> int:
    with contextlib.suppress(OSError):
        # Nanoseconds on a core, as the scheduler counts them.
        return int(Path(f"/proc/self/task/{thread}/schedstat").read_text().split()[0])
    return 0


@contextmanager
def _uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
