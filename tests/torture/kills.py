"""Kills: SIGKILL or SIGTERM at a random moment, then every row against the model.

Promises: the store opens; an acknowledged call is there; the call in progress left each row old or
new, and an update all of its rows or none, as a delta those of all tables with its version.
"""

import os
import signal
import time
from pathlib import Path

from .campaign import end_child, in_child, last_line, new_folder, start_child
from .model import Progress, judge, make_calls, random_calls, read_store

CALLS = 300
KILLS_PER_FILE = 5


def run(campaign):
    for case in campaign.cases():
        rng = campaign.rng(case)
        with new_folder(rng) as folder:
            _life_of_a_file(campaign, case, rng, Path(folder) / "kills.tier")


def _life_of_a_file(campaign, case, rng, path):
    calls = random_calls(rng, CALLS)
    first, floor = 0, {}
    for _ in range(KILLS_PER_FILE):
        if first == CALLS:
            return
        progress = Progress(CALLS)
        seed = int(rng.integers(1 << 31))
        child = start_child(lambda: make_calls(path, calls[first:], progress, seed=seed))  # noqa: B023
        signalled = _kill(child[0], progress, first, rng)
        ended = end_child(child, 60)
        campaign.counts["kills"] += ended.kind == "died"
        if ended.kind != "returned" and str(ended.value) != signalled:
            campaign.fail("workload failed", case, last_line(ended))
            return
        campaign.keep_files(path.parent, "*")
        after = in_child(lambda: read_store(path))
        if after.kind != "returned":
            campaign.fail("store does not open", case, f"after {signalled}: {last_line(after)}")
            return
        found, errors = after.value
        campaign.counts["rows"] += sum(map(len, found.values()))
        started, done = progress.started >= 0, progress.done >= 0
        broken = list(judge(calls[first:], started, done, found, floor))
        for kind, text in broken:
            campaign.fail(kind, case, f"after {signalled}: {text} {' '.join(errors[:1])}")
        if broken:
            return
        if started.any():
            first = int(started.nonzero()[0][-1]) + 1
        floor = found


def _kill(process, progress, first, rng):
    """Send a signal while a random call runs, or while the store opens; return its name."""
    target = first - 1 if rng.random() < 0.1 else first + int(rng.geometric(0.03)) - 1
    delay = float(rng.exponential(0.002))
    number = signal.SIGKILL if rng.random() < 0.8 else signal.SIGTERM
    deadline = time.monotonic() + 5
    while first <= target < CALLS and time.monotonic() < deadline:
        if (
            progress.started[target] >= 0
            or progress.started[target + 1 : target + 9].max(initial=-1) >= 0
        ):
            break
        time.sleep(0.0001)
    time.sleep(delay)
    os.kill(process, number)  # a child that has ended stays a process until it is waited for
    return number.name
