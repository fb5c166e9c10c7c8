"""What a row history must say, from all that was accessed and with exact arithmetic."""

import bisect
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from math import log2

import numpy as np

NEVER = 24.0
HALF_LIVES = (256, 2048, 16384, 65536, 262144)
CONTEXT_HALF_LIVES = (2048, 16384, 262144)
RETURNS = (256, 8192)
GAPS, CONTEXTS = 4, 4
MOST_POSITION = 255
LOOKED_AT, MOST_MERIT = 8, 16


@dataclass
class Row:
    table: int
    accesses: list = field(default_factory=list)  # (access, sample) from 1
    bag_position: int = 0
    sample_position: int = 0
    newcomers: int = 0
    returns: list = field(default_factory=lambda: [0] * len(RETURNS))

    def decayed(self, half_life, now):
        return log2(0.001 + sum(2 ** ((at - now) / half_life) for at, _ in self.accesses))

    def gaps(self):
        times = [at for at, _ in self.accesses]
        return [log2(1 + b - a) for a, b in pairwise(times)][::-1]

    def sample_gaps(self):
        pairs = pairwise(self.accesses)
        return [log2(1 + b[0] - a[0]) for a, b in pairs if a[1] != b[1]][::-1]


class Oracle:
    def __init__(self, table_starts, capacity, contexts):
        self.table_starts, self.capacity, self.contexts = table_starts, capacity, list(contexts)
        self.rows = {}
        self.places = []  # rows, in the order in which they are looked at to forget one
        self.hand = 0
        self.companions = {}  # of each sample, by context: row, its place, its accesses
        self.now = self.sample = 0
        self.tables = [[8.0, 0.5] for _ in table_starts[1:]]

    def table_of(self, row):
        return bisect.bisect_right(self.table_starts, row) - 1

    def observe(self, rows, lengths):
        rows = iter(rows)
        for length in lengths:
            self.sample += 1
            self.companions[self.sample] = {}
            self.fresh = []  # tables of rows first seen in this sample
            self.last_table, self.bag_position = None, 0
            for position in range(length):
                self.access(next(rows), position)

    def access(self, row, position):
        self.now += 1
        new = row not in self.rows
        if new:
            self.remember(row)
        known = self.rows[row]
        table = self.tables[known.table]
        table[1] += ((not new) - table[1]) * 0.002
        if not new:
            before, sample = known.accesses[-1]
            table[0] += (log2(1 + self.now - before) - table[0]) * 0.002
            if sample != self.sample:
                for _, companion in self.companions_of(known):
                    for i, least in enumerate(RETURNS):
                        companion.returns[i] += self.now - before > least
        known.accesses.append((self.now, self.sample))
        known.sample_position = position
        same = known.table == self.last_table
        self.bag_position = self.bag_position + 1 if same else 0
        known.bag_position, self.last_table = self.bag_position, known.table
        self.note_context(row, known, new)

    def remember(self, row):
        self.rows[row] = Row(self.table_of(row))
        if len(self.places) < self.capacity:
            self.places.append(row)
            return

        def oblivion(place):
            accesses = self.rows[self.places[place]].accesses
            samples = len({sample for _, sample in accesses})
            return Fraction(self.now - accesses[-1][0], min(samples, MOST_MERIT))

        looked_at = min(LOOKED_AT, self.capacity)
        candidates = [(self.hand + i) % self.capacity for i in range(looked_at)]
        self.hand = (self.hand + looked_at) % self.capacity
        worst = max(candidates, key=oblivion)
        del self.rows[self.places[worst]]
        self.places[worst] = row

    def note_context(self, row, known, new):
        if not self.contexts:
            return
        here = self.companions[self.sample]
        own = self.contexts.index(known.table) if known.table in self.contexts else None
        if own is not None and own not in here:
            here[own] = (row, self.places.index(row), len(known.accesses))
            known.newcomers += sum(table != known.table for table in self.fresh)
        if not new:
            return
        self.fresh.append(known.table)
        for _, companion in self.companions_of(known):
            companion.newcomers += 1

    def companions_of(self, known):
        """Contexts and the rows there, those that are still remembered, but for the row's own."""
        found = []
        here = self.companions.get(known.accesses[-1][1], {})
        for context, (row, place, _) in here.items():
            if self.contexts[context] != known.table and self.places[place] == row:
                found.append((context, self.rows[row]))
        return found

    def features(self, row):
        known = self.rows.get(row)
        table = self.table_of(row) if known is None else known.table
        found = {
            "table": table,
            "in_sample": 0,
            "age": NEVER,
            "sample_age": NEVER,
            "lifetime": NEVER,
            "mean_gap": NEVER,
            **dict.fromkeys(("count", "samples", "burst", "bag_position", "sample_position"), 0.0),
            **{f"decayed_{half_life}": log2(0.001) for half_life in HALF_LIVES},
        }
        statistics = self.tables[table]
        found["table_gap"], found["table_known"] = statistics
        gaps, sample_gaps = ([], []) if known is None else (known.gaps(), known.sample_gaps())
        for i in range(GAPS):
            found[f"gap_{i}"] = gaps[i] if i < len(gaps) else NEVER
            found[f"sample_gap_{i}"] = sample_gaps[i] if i < len(sample_gaps) else NEVER
        for context in range(CONTEXTS):
            found |= self.context_features(f"context_{context}_", None, None)
        if known is None:
            return found
        last, sample = known.accesses[-1]
        samples = [sample for _, sample in known.accesses]
        lifetime = self.now - known.accesses[0][0]
        found |= {
            "in_sample": sample == self.sample,
            "age": log2(1 + self.now - last),
            "sample_age": log2(1 + self.sample - sample),
            "count": log2(1 + len(samples)),
            "samples": log2(1 + len(set(samples))),
            "lifetime": log2(1 + lifetime),
            "mean_gap": log2(1 + lifetime / len(samples)),
            "burst": log2(1 + samples.count(sample)),
            "bag_position": log2(1 + min(known.bag_position, MOST_POSITION)),
            "sample_position": log2(1 + min(known.sample_position, MOST_POSITION)),
            **{f"decayed_{h}": known.decayed(h, self.now) for h in HALF_LIVES},
        }
        for context, companion in self.companions_of(known):
            found |= self.context_features(
                f"context_{context}_", companion, self.companions[sample][context][2], last
            )
        return found

    def context_features(self, prefix, companion, count_then, last=None):
        found = {
            "age": NEVER,
            "gap": NEVER,
            **dict.fromkeys(("lead", "count", "count_since", "newcomers"), 0.0),
            **{f"decayed_{half_life}": log2(0.001) for half_life in CONTEXT_HALF_LIVES},
            **{f"returns_{least}": log2(0.3) for least in RETURNS},
        }
        if companion is not None:
            count = len(companion.accesses)
            used = companion.accesses[-1][0]
            found |= {
                "age": log2(1 + self.now - used),
                "gap": (companion.gaps() or [NEVER])[0],
                "lead": log2(1 + max(used - last, 0)),
                "count": log2(1 + count),
                "count_since": log2(1 + max(count - count_then, 0)),
                "newcomers": log2(1 + companion.newcomers),
                **{f"decayed_{h}": companion.decayed(h, self.now) for h in CONTEXT_HALF_LIVES},
                **{
                    f"returns_{least}": log2((found + 0.3) / (companion.newcomers + 1))
                    for least, found in zip(RETURNS, companion.returns, strict=True)
                },
            }
        return {prefix + name: value for name, value in found.items()}

    def matrix(self, rows, names):
        return np.array([[self.features(row)[name] for name in names] for row in rows])
