"""Line 2: rows of a cold file, against the random reads a second that its device gives."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tieralloc as ta
from bench.peers import fio
from bench.peers.bench import Bench
from bench.peers.dataset import drop_page_cache
from bench.peers.findings import Finding, at_least
from bench.peers.kinds.memmap import map_file
from bench.peers.kinds.tiered import Tiered
from bench.peers.measure import Spread, alternate, ratios
from bench.peers.peer import PeerFailedError
from tieralloc import _bindings

NUMBER = 2
TITLE = "On-demand fetches: rows a second of lookups that all miss a cold file"
DEPTH = 64
BLOCK = 4096
FAST_FRACTION = 0.01
BURSTS = "fio in bursts of as many"

Speed = Callable[[int], float]


def run(bench: Bench) -> list[Finding]:
    load = bench.load("b")
    assert load is not None
    dataset = bench.dataset(load)
    budget = max(1 << 20, int(dataset.rows * dataset.row_bytes * FAST_FRACTION))
    peer = Tiered(dataset, budget)
    peer.prepare()
    settings = bench.settings
    cold = ColdRows(dataset.rows, dataset.row_bytes)

    def ours(rows: int, engine: str = "auto") -> Speed:
        return lambda _: _lookups(peer, engine, cold, rows, settings.seconds)

    contenders = {_rows_a_call(rows): ours(rows) for rows in (*settings.on_demand_rows, 1)}
    for engine, refusal in _bindings.fetch_engines().items():
        if refusal:
            bench.refuse(f"engine {engine}", refusal)
        else:
            contenders[f"engine {engine}"] = ours(settings.on_demand_rows[0], engine)
    contenders["numpy.memmap"] = lambda _: _memmap(
        peer.path, dataset.dim, cold, settings.on_demand_rows[0], settings.seconds
    )
    no_fio = _fio_refusal(peer.path)
    if no_fio:
        bench.refuse("fio", no_fio)
    else:
        for depth in (DEPTH, 1):
            contenders[_fio(depth)] = partial(_fio_reads, peer.path, depth, settings.seconds)
        contenders[BURSTS] = partial(
            _fio_reads, peer.path, settings.on_demand_rows[0], settings.seconds, in_bursts=True
        )
    with bench.steps("on-demand", settings.rounds * len(contenders)) as tick:
        speeds = alternate(settings.rounds, contenders, tick)
    return _findings(speeds, settings.on_demand_rows, no_fio)


class ColdRows:
    """Rows in random order, no two of a call in one block, and none again before all others."""

    def __init__(self, rows: int, row_bytes: int) -> None:
        self._in_block = max(1, BLOCK // row_bytes)
        self._blocks = np.random.default_rng(2).permutation(rows // self._in_block)
        self._passes = 0
        self._at = 0

    def take(self, count: int) -> NDArray[np.int64]:
        if self._at + count > len(self._blocks):
            self._at = 0
            self._passes += 1
        blocks = self._blocks[self._at : self._at + count]
        self._at += count
        return blocks * self._in_block + self._passes % self._in_block


def _lookups(peer: Tiered, engine: str, cold: ColdRows, rows: int, seconds: float) -> float:
    """Rows a second of a store that was just opened, and missed every one of them."""
    assert peer.budget is not None
    slow = ta.File(peer.path, mode="r+", engine=engine)
    with ta.TieredStore(slow=slow, fast_bytes=peer.budget) as store:
        (table,) = store.tables.values()
        out = np.empty((rows, table.embedding_dim), dtype=np.float32)
        speed = _repeat(lambda: table.lookup(cold.take(rows), out=out), rows, seconds)
        stats = store.stats()
    if stats["on_demand_fetches"] != stats["lookups"]:
        raise PeerFailedError(
            f"{stats['hits']} of {stats['lookups']} rows were resident, expected none"
        )
    return speed


def _memmap(path: Path, dim: int, cold: ColdRows, rows: int, seconds: float) -> float:
    """Rows a second of a map of the same file, none of whose pages was in memory."""

    def read() -> float:
        mapped = map_file(path, dim)
        out = np.empty((rows, dim), dtype=np.float32)
        return _repeat(
            lambda: np.take(mapped, cold.take(rows), axis=0, out=out, mode="clip"), rows, seconds
        )

    drop_page_cache(path)
    speed = read()
    drop_page_cache(path)
    return speed


def _repeat(call: Callable[[], Any], rows: int, seconds: float) -> float:
    """Rows a second of a call that is repeated for a while."""
    began = time.perf_counter()
    calls = 0
    while (passed := time.perf_counter() - began) < seconds or calls == 0:
        call()
        calls += 1
    return calls * rows / passed


def _fio_refusal(path: Path) -> str:
    try:
        fio.random_reads(path, depth=1, seconds=0.01)
    except fio.FioRefusedError as error:
        return str(error)
    return ""


def _fio_reads(path: Path, depth: int, seconds: float, _: int, *, in_bursts: bool = False) -> float:
    return fio.random_reads(path, depth, seconds, in_bursts=in_bursts)


def _findings(
    speeds: dict[str, list[float]], on_demand_rows: tuple[int, ...], no_fio: str
) -> list[Finding]:
    per_second: dict[str, float | str] = {
        f"{name}, rows/s": Spread.of(values).median for name, values in speeds.items()
    }
    deep = speeds.get(_fio(DEPTH))
    first = speeds[_rows_a_call(on_demand_rows[0])]
    findings = [
        Finding(
            f"{_rows_a_call(rows)} ÷ fio's random 4 KiB reads at depth {DEPTH}",
            ratios(speeds[_rows_a_call(rows)], deep) if deep else None,
            at_least(0.9),
            note=no_fio,
        )
        for rows in on_demand_rows
    ]
    findings[0] = replace(findings[0], figures=per_second)
    findings.append(
        Finding(
            f"{_rows_a_call(on_demand_rows[0])} ÷ numpy.memmap, cold",
            ratios(first, speeds["numpy.memmap"]),
            at_least(5.0),
        )
    )
    if deep:
        findings.append(
            Finding(f"{_rows_a_call(on_demand_rows[0])} ÷ {BURSTS}", ratios(first, speeds[BURSTS]))
        )
        findings.append(
            Finding(
                "1 row a call ÷ fio at depth 1",
                ratios(speeds[_rows_a_call(1)], speeds[_fio(1)]),
            )
        )
    return findings


def _rows_a_call(rows: int) -> str:
    return f"{rows} row{'s' if rows > 1 else ''} a call"


def _fio(depth: int) -> str:
    return f"fio at depth {depth}"
