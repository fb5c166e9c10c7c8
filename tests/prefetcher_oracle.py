"""What successors and a prefetcher must say, with dictionaries, lists and exact arithmetic."""

from fractions import Fraction
from math import log2

import numpy as np

SUCCESSORS, PAIR_WINDOW, OCCURRENCES, NEW = 32, 16, 32, 256
HORIZON, MOST_PENDING, MOST_FETCHES = 512, 4096, 8192
BENEFIT_OF_DOUBT, FORGET = 64, 1 / 65536


def log_of_share(share):
    return log2(0.001 + share)


class Beside:
    """Another row: how often it came after and before, and how long ago it last did."""

    def __init__(self, row, age):
        self.row, self.age, self.after, self.before = row, age, 0, 0

    @property
    def times(self):
        return self.after + self.before


class Successors:
    """Candidates are dictionaries by the names of their features."""

    def __init__(self, capacity):
        self.capacity = capacity
        self.log = []  # (row, whether its sample begins with it), the latest first
        self.now = self.position = 0
        self.begins = False

    def begin_sample(self):
        self.begins, self.position = True, 0
        self.votes = {}  # by row: shares, and the access of the first

    def observe(self, row):
        self.now += 1
        self.position += 1
        self.log = [(row, self.begins), *self.log][: self.capacity]
        self.begins = False
        seen = {other for other, _ in self.log[: min(self.position, PAIR_WINDOW + 1)]}
        earlier = [
            age for age, (other, _) in enumerate(self.log) if other == row and age >= self.position
        ][:OCCURRENCES]
        beside = {}
        for age in earlier:
            for other in self.before(age):
                beside.setdefault(other, Beside(other, age)).before += 1
            for other in self.after(age):
                beside.setdefault(other, Beside(other, age)).after += 1
        found = [it for other, it in beside.items() if other not in seen]
        by_worth = sorted(found, key=lambda it: Fraction(-it.times, it.age + NEW))
        kept = {it.row for it in by_worth[:SUCCESSORS]}
        return [(it.row, self.features(earlier, it)) for it in found if it.row in kept]

    def before(self, age):
        for at in range(age, min(age + PAIR_WINDOW, len(self.log) - 1)):
            if self.log[at][1]:
                return
            yield self.log[at + 1][0]

    def after(self, age):
        for at in range(age, max(age - PAIR_WINDOW, 0), -1):
            if self.log[at - 1][1]:
                return
            yield self.log[at - 1][0]

    def features(self, earlier, it):
        share = it.times / len(earlier)
        shares, first = self.votes.setdefault(it.row, ([], self.now))
        shares.append(share)
        return {
            "after": it.after,
            "before": it.before,
            "after_share": log_of_share(it.after / len(earlier)),
            "share": log_of_share(share),
            "pair_age": log2(1 + it.age),
            "owner_count": log2(1 + len(earlier)),
            "owner_gap": log2(1 + earlier[0]),
            "owner_span": log2(1 + earlier[-1]),
            "voters": len(shares),
            "confidence": log_of_share(sum(shares)),
            "strongest": log_of_share(max(shares)),
            "vote_age": log2(1 + self.now - first),
            "position": log2(1 + self.position),
        }


class Prefetcher:
    def __init__(self, capacity, least):
        self.successors, self.least = Successors(capacity), least
        self.pending = []
        self.waited_for = {}  # row: access that it was chosen at
        self.now = 0
        self.promised = self.kept = 0.0

    def observe(self, rows, lengths):
        rows = iter(rows)
        for length in lengths:
            self.successors.begin_sample()
            for _ in range(length):
                self.access(next(rows))

    def access(self, row):
        self.now += 1
        self.promised *= 1 - FORGET
        self.kept *= 1 - FORGET
        self.waited_for = {
            other: at for other, at in self.waited_for.items() if self.now - at <= HORIZON
        }
        self.kept += self.waited_for.pop(row, None) is not None
        self.pending += self.successors.observe(row)

    def candidates(self):
        """Rows and their features, ascending by row."""
        last = dict(self.pending[-MOST_PENDING:])
        self.pending = []
        return {row: last[row] for row in sorted(last) if row not in self.waited_for}

    def choose(self, candidates, scores):
        least = self.least / self.trust
        chosen = []
        for score, row in sorted(
            zip(scores, candidates, strict=True), key=lambda it: (-it[0], it[1])
        ):
            if score >= least and len(self.waited_for) < MOST_FETCHES:
                chosen.append(row)
                self.waited_for[row] = self.now
                self.promised += score
        return chosen

    @property
    def trust(self):
        kept, promised = self.kept + BENEFIT_OF_DOUBT, self.promised + BENEFIT_OF_DOUBT
        return min(1.0, kept / promised)


def matrix(candidates, names):
    return np.array([[features[name] for name in names] for features in candidates.values()])
