"""Ranks: SIGKILL or SIGSTOP of a rank at a random moment, while three ranks serve.

Promises: the others raise an error that names the rank, within a stated time, and no result before
it is wrong.
"""

import signal
from importlib.util import find_spec
from pathlib import Path

from .campaign import MissingError, new_folder

MAX_DELAY = 0.5


def run(campaign):
    if find_spec("torchrec") is None or find_spec("fbgemm_gpu") is None:
        raise MissingError("torchrec and fbgemm_gpu")
    from tests.distributed_support import fail_rank

    for case in campaign.cases():
        rng = campaign.rng(case)
        victim, delay = int(rng.integers(3)), float(rng.uniform(0, MAX_DELAY))
        number = signal.SIGKILL if rng.random() < 0.8 else signal.SIGSTOP
        with new_folder(rng) as folder:
            try:
                results = fail_rank(Path(folder), victim, number, delay)
            except AssertionError as error:
                campaign.fail("rank hung or failed", case, str(error))
                continue
        campaign.counts[f"ranks with {number.name}"] += 1
        for named, text, wrong in results:
            if named != (victim,):
                campaign.fail("other rank named", case, f"{named}, not {victim}: {text}")
            if wrong:
                campaign.fail("wrong result", case, f"{wrong} results")
