"""What successors and a prefetcher must say, with dictionaries, lists and exact arithmetic."""

from fractions import Fraction
from math import log2

import numpy as np

SUCCESSORS, PAIR_WINDOW = 32, 16
LOOKED_AT, MOST_MERIT, MOST_COUNTED, NEW = 8, 16, 64, 256
MOST_TIMES = 255
HORIZON, MOST_PENDING, MOST_FETCHES = 512, 4096, 8192
BENEFIT_OF_DOUBT, FORGET = 64, 1 / 65536


def log_of_share(share):
    return log2(0.001 + share)


class Entry:
    """Another row: how often it came after and before the owner, and when it last did."""

    def __init__(self, row):
        self.row, self.after, self.before, self.last = row, 0, 0, 0

    @property
    def times(self):
        return self.after + self.before


class Owner:
    def __init__(self, now):
        self.last, self.count, self.entries = now, 0, []

    def entry(self, row, now):
        for entry in self.entries:
            if entry.row == row:
                return entry
        if len(self.entries) < SUCCESSORS and all(entry.times for entry in self.entries):
            self.entries.append(Entry(row))
            return self.entries[-1]
        worth = [Fraction(entry.times, now - entry.last + NEW) for entry in self.entries]
        worst = worth.index(min(worth))
        self.entries[worst] = Entry(row)
        return self.entries[worst]


class Successors:
    """Candidates are dictionaries by the names of their features."""

    def __init__(self, capacity):
        self.capacity = capacity
        self.owners = {}
        self.places = []  # rows, in the order in which they are looked at to forget one
        self.hand = self.now = 0

    def begin_sample(self):
        self.sample, self.votes = [], {}  # (row, its place) of accesses; shares and the first vote

    def observe(self, row):
        self.now += 1
        owner = self.owner_of(row)
        for other, place in self.sample[: -PAIR_WINDOW - 1 : -1]:
            if other == row or self.places[place] != other:  # itself, or forgotten
                continue
            self.count(self.owners[other], row, "after")
            self.count(owner, other, "before")
        self.sample.append((row, self.places.index(row)))
        owner.count += 1
        if owner.count >= MOST_COUNTED:
            owner.count //= 2
            for entry in owner.entries:
                entry.after //= 2
                entry.before //= 2
        found = [
            (entry.row, self.features(owner, entry))
            for entry in owner.entries
            if entry.times > 0 and entry.last != self.now
        ]
        owner.last = self.now
        return found

    def owner_of(self, row):
        if row in self.owners:
            return self.owners[row]
        if len(self.places) < self.capacity:
            self.places.append(row)
        else:

            def oblivion(place):
                owner = self.owners[self.places[place]]
                return Fraction(self.now - owner.last, min(max(owner.count, 1), MOST_MERIT))

            looked_at = min(LOOKED_AT, self.capacity)
            worst = max(((self.hand + i) % self.capacity for i in range(looked_at)), key=oblivion)
            self.hand = (self.hand + looked_at) % self.capacity
            del self.owners[self.places[worst]]
            self.places[worst] = row
        self.owners[row] = Owner(self.now)
        return self.owners[row]

    def count(self, owner, other, times):
        entry = owner.entry(other, self.now)
        setattr(entry, times, min(getattr(entry, times) + 1, MOST_TIMES))
        entry.last = self.now

    def features(self, owner, entry):
        share = entry.times / owner.count
        shares, first = self.votes.setdefault(entry.row, ([], self.now))
        shares.append(share)
        return {
            "after": entry.after,
            "before": entry.before,
            "after_share": log_of_share(entry.after / owner.count),
            "share": log_of_share(share),
            "pair_age": log2(1 + self.now - entry.last),
            "owner_count": log2(1 + owner.count),
            "voters": len(shares),
            "confidence": log_of_share(sum(shares)),
            "strongest": log_of_share(max(shares)),
            "vote_age": log2(1 + self.now - first),
            "position": log2(1 + len(self.sample)),
            "owner_gap": log2(1 + self.now - owner.last),
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
