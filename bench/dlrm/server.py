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
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

import tieralloc as ta
from bench.dlrm.contenders import Contender
from bench.dlrm.lookahead import Lookahead
from bench.dlrm.model import COLLECTION, build, put_into
from bench.dlrm.requests import Requests
from bench.dlrm.served import Served
from tieralloc._arrivals import poisson_arrivals, wait_until
from tieralloc._learned import load_learned

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LEAD_NS = 10_000_000  # from the start of who receives requests to time zero of arrivals
_RUNTIME = "tieralloc-policy"  # how names of the policy's threads begin


class CachingOnly:
    """A policy's brain that fetches nothing ahead."""

    def __init__(self, brain: Any) -> None:
        self._brain = brain

    def observe(self, rows: Any, lengths: Any) -> None:
        self._brain.observe(rows, lengths)

    def score(self, rows: Any) -> Any:
        return self._brain.score(rows)

    @property
    def nbytes(self) -> int:
        return int(self._brain.nbytes)


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
        collection = self._model.get_submodule(COLLECTION)
        collection.register_forward_pre_hook(self._note_begin)
        collection.register_forward_hook(self._note_end)

    def _put_into_store(self, path: Path, rows: int, fast_rows: int, policy: Path | None) -> None:
        with ta.TieredStore(path, fast_rows=1) as store:
            put_into(self._model, store, self._names, load=True)
        contender = self._contender
        in_dram = contender.memory == "store in DRAM"
        simple = "lru" if in_dram or contender.trained else contender.caching
        store = ta.TieredStore.open(path, fast_rows=rows if in_dram else fast_rows, policy=simple)
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
        if contender.own or contender.caching == "recmg":
            store.use_policy(f"{contender.name}:{policy}", policy_rests=contender.rests)
            return
        learned = load_learned(f"{contender.trained}:{policy}")
        brain = learned.brain(store._rows_of_tables(), store._core.view()[1])
        store.use_policy(CachingOnly(brain), policy_rests=contender.rests)

    def pin_policy(self, cores: Sequence[int]) -> None:
        """Have the policy's threads run on these cores alone."""
        for thread in threading.enumerate():
            if thread.name.startswith(_RUNTIME) and thread.native_id is not None:
                os.sched_setaffinity(thread.native_id, cores)

    def warm(self) -> NDArray[np.float32]:
        """Serve what comes before the counted requests; return the last scores, for comparison."""
        scores = np.empty(0, dtype=np.float32)
        for batch in self.requests.warm_up:
            scores = self._score(0, *batch).numpy().ravel().copy()
        if self.store is not None:
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
        policy = sum(
            _thread_cpu_ns(thread.native_id)
            for thread in threading.enumerate()
            if thread.name.startswith(_RUNTIME) and thread.native_id is not None
        )
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
        runtime = stats["policy_runtime"]
        if runtime is not None:
            about["policy_runtime"] = {
                "in_charge": runtime["in_charge"].partition(":")[0],
                "state": runtime["state"],
                "worth": runtime["worth"],
                "observed_share": round(runtime["observed_share"], 4),
                "policy_lag": round(runtime["policy_lag"]["mean"]),
                "candidates": runtime["candidates"],
                "advised_evictions": runtime["advised_evictions"],
                "fallback_evictions": runtime["fallback_evictions"],
                "switches": (runtime["guard"] or {}).get("switches", 0),
                "prefetching": (runtime["guard"] or {}).get("prefetching"),
            }
        return about

    def close(self) -> None:
        if self.store is not None:
            self.store.close()


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
