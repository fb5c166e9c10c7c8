"""The compared policies: a row of the tables each, in the order of `LABELS`.

A new policy is an entry in `SIMPLE`, `LIBCACHESIM` or `LEARNED`.
"""

from __future__ import annotations

LRU, OPT = "lru", "opt"

#: Policies of tieralloc, by name.
SIMPLE = (LRU, "s3fifo")

#: Policies of libcachesim with its default parameters: the class, by label.
LIBCACHESIM = {
    "CLOCK": "Clock",
    "ARC": "ARC",
    "SIEVE": "Sieve",
    "2Q": "TwoQ",
    "W-TinyLFU": "WTinyLFU",
    "LHD": "LHD",
    "LRB": "LRB",
    "3L-Cache": "ThreeLCache",
    "lru of libcachesim": "LRU",
    "s3fifo of libcachesim": "S3FIFO",
}

#: Policies of libcachesim that must count the fetches of ours, by the name of ours.
CHECKS = {name: f"{name} of libcachesim" for name in SIMPLE}

#: Trained policies, by the name that `tieralloc simulate` takes; the longest training first.
LEARNED = ("recmg-paper", "recmg-caching", "recmg")

LABELS = (*SIMPLE, *LIBCACHESIM, *LEARNED, OPT)

#: Baselines of the learned policies.
BASELINES = tuple(label for label in (*SIMPLE, *LIBCACHESIM) if label not in CHECKS.values())
