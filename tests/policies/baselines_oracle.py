"""Each baseline from its description, with dictionaries and lists."""

from collections import OrderedDict

COUNTS = (
    "calls",
    "on_demand_device_reads",
    "prefetch_device_reads",
    "lookups",
    "hits",
    "on_demand_fetches",
    "evictions",
    "prefetches_issued",
    "prefetches_useful",
    "prefetches_late",
    "prefetches_useless",
)


class NextRow:
    def __init__(self, rows, degree):
        self.rows, self.degree = rows, degree

    def begin_sample(self):
        pass

    def observe(self, row, found):
        if found == "resident":
            return []
        return [row + i for i in range(1, self.degree + 1) if row + i < self.rows]

    def evicted(self, row):
        pass


class CoOccurrence:
    """Partners are kept in the order in which they were last seen, the last one first."""

    def __init__(self, rows, partners, window, across_samples, least_share, degree):
        self.rows, self.partners, self.window = rows, partners, window
        self.across_samples, self.least_share, self.degree = across_samples, least_share, degree
        self.accesses = OrderedDict()  # row: accesses, those accessed longest ago first
        self.beside = {}  # row: list of [partner, times]
        self.recent = []

    def begin_sample(self):
        if not self.across_samples:
            self.recent = []

    def observe(self, row, found):
        if row not in self.accesses:
            if len(self.accesses) == self.rows:
                forgotten, _ = self.accesses.popitem(last=False)
                del self.beside[forgotten]
            self.accesses[row], self.beside[row] = 0, []
        self.accesses.move_to_end(row)
        for other in self.recent[::-1][: self.window]:
            if other == row:
                continue
            self.count(row, other)
            if other in self.beside:
                self.count(other, row)
        self.accesses[row] += 1
        if self.accesses[row] == 64:
            self.accesses[row] //= 2
            self.beside[row] = [[partner, times // 2] for partner, times in self.beside[row]]
        self.recent.append(row)
        least = max(self.least_share * self.accesses[row], 1)
        chosen = [pair for pair in self.beside[row] if pair[1] >= least]
        return [partner for partner, _ in sorted(chosen, key=lambda p: -p[1])][: self.degree]

    def count(self, owner, partner):
        known = dict(self.beside[owner])
        if partner not in known and len(known) == self.partners:
            fewest = min(known.values())
            leaving = [each for each, times in self.beside[owner] if times == fewest][-1]
            self.beside[owner] = [pair for pair in self.beside[owner] if pair[0] != leaving]
        rest = [pair for pair in self.beside[owner] if pair[0] != partner]
        self.beside[owner] = [[partner, known.get(partner, 0) + 1], *rest]

    def evicted(self, row):
        pass


class Domino:
    """The index is what the whole history says of each pair, but for what was forgotten of it."""

    def __init__(self, rows, degree, streams, followers, history, all_accesses):
        self.rows, self.degree, self.max_streams = rows, degree, streams
        self.followers, self.kept, self.all_accesses = followers, history, all_accesses
        self.events = []
        self.index = OrderedDict()  # row: list of (follower, place), the last seen first
        self.streams = []  # [next place, expected rows], the one used longest ago first

    def begin_sample(self):
        pass

    def evicted(self, row):
        pass

    def is_kept(self, place):
        return place >= len(self.events) - self.kept

    def observe(self, row, found):
        if found == "resident" and not self.all_accesses:
            return []
        prefetches = self.replay(row)
        if self.events:
            seen = self.index.pop(self.events[-1], [])
            seen = [pair for pair in seen if pair[0] != row]
            while len(self.index) >= self.rows:
                self.index.popitem(last=False)
            self.index[self.events[-1]] = [(row, len(self.events)), *seen][: self.followers]
        self.events.append(row)
        return prefetches

    def replay(self, row):
        for stream in self.order_of_places():
            if row in stream[1]:
                stream[1] = stream[1][stream[1].index(row) + 1 :]
                return self.go_on(stream)
        if self.events:
            for follower, place in self.index.get(self.events[-1], []):
                if follower == row and self.is_kept(place):
                    return self.begin(place + 1)
        return [self.index[row][0][0]] if row in self.index else []

    def order_of_places(self):
        return sorted(self.streams, key=lambda stream: stream[2])

    def begin(self, place):
        if len(self.streams) < self.max_streams:
            number = len(self.streams)
        else:
            number = self.streams.pop(0)[2]
        stream = [place, [], number]
        self.streams.append(stream)
        return self.go_on(stream)

    def go_on(self, stream):
        self.streams.remove(stream)
        self.streams.append(stream)
        prefetches = []
        while len(stream[1]) < self.degree and stream[0] < len(self.events):
            if not self.is_kept(stream[0]):
                break
            stream[1].append(self.events[stream[0]])
            prefetches.append(self.events[stream[0]])
            stream[0] += 1
        return prefetches


class Bingo:
    def __init__(self, table_of, region, active, history, voters, votes):
        self.table_of, self.region, self.max_active = table_of, region, active
        self.max_kept, self.voters, self.votes = history, voters, votes
        self.active = OrderedDict()  # region: (first row, set of rows), used longest ago first
        self.kept = OrderedDict()  # first row: set of rows, recorded longest ago first

    def begin_sample(self):
        pass

    def observe(self, row, found):
        region = row // self.region
        if region in self.active:
            self.active.move_to_end(region)
            self.active[region][1].add(row)
            return []
        predicted = self.predicted(row)
        if len(self.active) == self.max_active:
            self.end(next(iter(self.active)))
        self.active[region] = (row, {row})
        return sorted(other for other in predicted if other != row and other < len(self.table_of))

    def predicted(self, row):
        if row in self.kept:
            return self.kept[row]
        alike = [
            {other % self.region for other in rows}
            for first, rows in reversed(self.kept.items())
            if self.table_of[first] == self.table_of[row]
            and first % self.region == row % self.region
        ][: self.voters]
        begin = row // self.region * self.region
        return {
            begin + place
            for place in range(self.region)
            if (votes := sum(place in rows for rows in alike)) > 0
            and votes >= self.votes * len(alike)
        }

    def evicted(self, row):
        region = row // self.region
        if region in self.active and row in self.active[region][1]:
            self.end(region)

    def end(self, region):
        first, rows = self.active.pop(region)
        if len(rows) == 1:
            return
        self.kept.pop(first, None)
        if len(self.kept) == self.max_kept:
            self.kept.popitem(last=False)
        self.kept[first] = rows


class Tier:
    """LRU with a prefetcher beside it; counts as `Simulator` does, each row in its own words."""

    def __init__(self, capacity, prefetcher, count_from, lag=0):
        self.capacity, self.prefetcher, self.count_from, self.lag = (
            capacity,
            prefetcher,
            count_from,
            lag,
        )
        self.resident = OrderedDict()  # row: whether it awaits its first use; used last comes last
        self.flights = {}  # row: access that it is there at
        self.now = 0
        self.counts = dict.fromkeys(COUNTS, 0)

    def count(self, name, counted):
        if counted:
            self.counts[name] += 1

    def run(self, rows, lengths):
        rows = iter(rows)
        for length in lengths:
            self.prefetcher.begin_sample()
            for _ in range(length):
                self.access(int(next(rows)))

    def access(self, row):
        counted = self.now >= self.count_from
        self.land(counted)
        self.now += 1
        self.count("calls", counted)
        self.count("lookups", counted)
        if row in self.resident:
            found = "prefetched" if self.resident[row] else "resident"
            self.count("hits", counted)
            if self.resident[row]:
                self.count("prefetches_useful", counted)
            self.resident[row] = False
            self.resident.move_to_end(row)
        else:
            found = "on_demand"
            self.count("on_demand_fetches", counted)
            if self.flights.pop(row, None) is not None:
                self.count("prefetches_late", counted)
            else:
                self.count("on_demand_device_reads", counted)
            self.admit(row, False, counted)
        counted = self.now >= self.count_from
        prefetches = self.prefetcher.observe(row, found)
        for other in prefetches:
            if other in self.resident or other in self.flights:
                continue
            self.count("prefetches_issued", counted)
            self.count("prefetch_device_reads", counted)
            self.flights[other] = self.now + self.lag
        if prefetches:
            self.land(counted)

    def land(self, counted):
        for row in [row for row, at in self.flights.items() if at <= self.now]:
            del self.flights[row]
            self.admit(row, True, counted)

    def admit(self, row, prefetches, counted):
        if len(self.resident) == self.capacity:
            leaving, awaits = self.resident.popitem(last=False)
            self.count("evictions", counted)
            if awaits:
                self.count("prefetches_useless", counted)
            self.prefetcher.evicted(leaving)
        self.resident[row] = prefetches
