"""Serve a DLRM over HTTP, with metrics; switch its version and resize its DRAM under load.

    pip install 'tieralloc[torch,metrics]'
    python examples/serve.py --seconds 60

Makes two versions of the tables in a temporary folder. A load generator sends requests at a steady
rate, whether or not earlier ones are answered, and compares each reply with both versions of the
model in memory: a reply that mixes them is an error. After a third of the time the server switches
to the second version; after two thirds it halves its DRAM.
"""

import argparse
import asyncio
import json
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path

import numpy as np
import prometheus_client
import torch

import tieralloc as ta

ROWS = {"user": 200_000, "item": 400_000, "shop": 20_000}
DIM = 32
LOOKUPS = 20  # per request and table
THREADS = 2


class Dlrm(torch.nn.Module):
    """A pooled vector of each table, and a perceptron over them."""

    def __init__(self):
        super().__init__()
        self.tables = torch.nn.ModuleDict(
            {name: torch.nn.EmbeddingBag(rows, DIM, mode="sum") for name, rows in ROWS.items()}
        )
        self.top = torch.nn.Sequential(
            torch.nn.Linear(len(ROWS) * DIM, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1)
        )

    def forward(self, indices):
        """Return a click of each sample."""
        vectors = [bags(indices[name]) for name, bags in self.tables.items()]
        return self.top(torch.cat(vectors, dim=1)).squeeze(1)


class Server:
    """POST /predict, /switch and /resize with a JSON body, GET /metrics."""

    def __init__(self, store, model):
        self.store, self.model = store, model
        self.registry = prometheus_client.CollectorRegistry()
        ta.metrics.register(store, registry=self.registry)
        self.predictions = ThreadPoolExecutor(THREADS)
        self.calls = {
            "/predict": (self.predictions, self.predict),
            "/switch": (None, lambda path: store.switch(path) and {}),
            "/resize": (None, lambda size: store.resize(fast_bytes=size) or {}),
            "/metrics": (None, lambda _: prometheus_client.generate_latest(self.registry)),
        }

    def predict(self, indices):
        """Serve one request."""
        with torch.inference_mode():
            bags = {name: torch.tensor([rows]) for name, rows in indices.items()}
            return {"click": self.model(bags).item()}

    async def serve(self, reader, writer):
        """Answer the requests of one connection."""
        while request := await reader.readline():
            path, length = request.split()[1].decode(), 0
            while (line := await reader.readline()).strip():
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            argument = json.loads(await reader.readexactly(length)) if length else None
            status, reply = await self.answer(path, argument)
            writer.write(b"HTTP/1.1 %d\r\nContent-Length: %d\r\n\r\n" % (status, len(reply)))
            writer.write(reply)
            await writer.drain()
        writer.close()

    async def answer(self, path, argument):
        """Return the status and the body of a reply."""
        if path not in self.calls:
            return 404, b"{}"
        threads, call = self.calls[path]
        try:
            reply = await asyncio.get_running_loop().run_in_executor(threads, call, argument)
        except Exception as error:
            return 500, json.dumps({"error": str(error)}).encode()
        return 200, reply if isinstance(reply, bytes) else json.dumps(reply).encode()


class Client:
    """Connections to the server, one per request in flight."""

    def __init__(self, port):
        self.port, self.idle = port, []

    async def call(self, method, path, argument=None):
        """Send a request; return the status and the body of its reply."""
        reader, writer = (
            self.idle.pop() if self.idle else await asyncio.open_connection("127.0.0.1", self.port)
        )
        body = b"" if argument is None else json.dumps(argument).encode()
        head = f"{method} {path} HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        status = int((await reader.readline()).split()[1])
        length = int((await reader.readline()).split(b":")[1])
        await reader.readline()
        reply = await reader.readexactly(length)
        self.idle.append((reader, writer))
        return status, reply

    async def close(self):
        """Close the connections."""
        for _, writer in self.idle:
            writer.close()
        await asyncio.sleep(0.1)  # the server ends its side


class Load:
    """Requests at a rate, their latencies, and the version that each reply is of."""

    def __init__(self, client, requests, expected):
        self.client, self.requests, self.expected = client, requests, expected
        self.until = float("inf")
        self.replies = []  # time, seconds, version; None: an error

    async def one(self, i, due):
        """Send a request, whose latency counts from the time when it was due."""
        status, reply = await self.client.call("POST", "/predict", self.requests[i])
        seconds = time.perf_counter() - due
        version = None
        if status == 200:
            click = json.loads(reply)["click"]
            close = [abs(click - clicks[i]) < 1e-4 for clicks in self.expected]
            version = close.index(True) + 1 if any(close) else None
        self.replies.append((due, seconds, version))

    async def run(self, rate):
        """Send requests at a rate, open loop, until the time that `until` says."""
        tasks, due = set(), time.perf_counter()
        random = np.random.default_rng(1)
        while due < self.until:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            task = asyncio.create_task(self.one(int(random.integers(len(self.requests))), due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            due += 1 / rate
        await asyncio.gather(*tasks)


def make_requests(count):
    """Return rows of each table, popular ones in most requests."""
    random = np.random.default_rng(0)
    return [
        {name: (random.zipf(1.1, LOOKUPS) % rows).tolist() for name, rows in ROWS.items()}
        for _ in range(count)
    ]


def make_versions(folder, requests):
    """Write two versions of the tables; return the model, their files, and the clicks of both."""
    first = Dlrm().eval()
    second = deepcopy(first)
    for bags in second.tables.values():
        torch.nn.init.normal_(bags.weight)
    expected, paths = [], []
    for number, model in enumerate((first, second), 1):
        with torch.inference_mode():
            bags = {name: torch.tensor([each[name] for each in requests]) for name in ROWS}
            expected.append(model(bags).tolist())
        paths.append(str(folder / f"version-{number}.tier"))
        with ta.TieredStore(paths[-1], fast_bytes="16MiB") as store:
            ta.nn.convert(deepcopy(model), store, verbose=False)
    return first, paths, expected


def line(what, replies, store):
    """Print the latencies, versions and errors of replies, and the store's state."""
    stats, milliseconds = store.stats(), 1e3 * np.array([seconds for _, seconds, _ in replies])
    versions = [version for _, _, version in replies]
    p50, p99 = np.percentile(milliseconds, (50, 99)) if replies else (0.0, 0.0)
    print(
        f"{what:<26} {len(replies):>6} {p50:>8.2f} {p99:>8.2f} {versions.count(1):>6}"
        f" {versions.count(2):>6} {versions.count(None):>6}"
        f" {stats.miss_ratio:>7.3f} {stats.dram.total_bytes / 2**20:>7.1f}",
        flush=True,
    )


async def main(seconds, rate, folder):
    """Serve and measure."""
    torch.set_num_threads(1)
    requests = make_requests(2000)
    print("making two versions of the tables", flush=True)
    model, paths, expected = make_versions(folder, requests)
    store = ta.TieredStore(paths[0], mode="r", fast_bytes="16MiB")
    ta.nn.convert(model, store, load=False)
    server = await asyncio.start_server(Server(store, model).serve, "127.0.0.1", 0)
    client = Client(server.sockets[0].getsockname()[1])
    load = Load(client, requests, expected)

    began = time.perf_counter()
    events = [
        (1 / 3, "POST", "/switch", paths[1]),
        (2 / 3, "POST", "/resize", "8MiB"),
    ]
    running = asyncio.create_task(load.run(rate))
    print(f"{rate} requests a second for {seconds:g} s at http://127.0.0.1:{client.port}")
    print(
        f"{'':<26} {'calls':>6} {'p50, ms':>8} {'p99, ms':>8} {'v1':>6} {'v2':>6} {'errors':>6}"
        f" {'misses':>7} {'MiB':>7}"
    )
    seen, failed = 0, []
    while events or not running.done():
        await asyncio.wait({running}, timeout=max(seconds / 12, 0.5))
        line(f"{time.perf_counter() - began:4.0f} s", load.replies[seen:], store)
        seen = len(load.replies)
        if events and time.perf_counter() - began >= events[0][0] * seconds:
            _, method, path, argument = events.pop(0)
            before = time.perf_counter()
            status, reply = await client.call(method, path, argument)
            took = 1e3 * (time.perf_counter() - before)
            print(f"{path} {argument}: status {status}, {took:.0f} ms", flush=True)
            if status != 200:
                failed.append(reply.decode())
            if not events:
                load.until = max(began + seconds, time.perf_counter() + seconds / 3)
    line("in whole", load.replies, store)
    status, text = await client.call("GET", "/metrics")
    print(f"/metrics: status {status}, {len(text.splitlines())} lines")
    await client.close()
    server.close()
    store.close()
    errors = sum(version is None for _, _, version in load.replies)
    if errors or failed or status != 200:
        raise SystemExit(f"{errors} wrong or failed replies; {failed}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=float, default=200, help="requests a second")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(main(arguments.seconds, arguments.rate, Path(name)))
