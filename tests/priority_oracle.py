"""A naive model of a fast tier that follows decisions on chunks (RecMG's buffer)."""


class PriorityBuffer:
    """Rows and priorities, in the order of the last change; eviction searches all rows."""

    def __init__(self, eviction_speed):
        self._speed = eviction_speed
        self._priorities = {}  # insertion order is the order of eviction among equals

    def __contains__(self, row):
        return row in self._priorities

    def __len__(self):
        return len(self._priorities)

    def set(self, row, priority):
        self._priorities.pop(row, None)
        self._priorities[row] = priority

    def insert(self, row):
        self.set(row, self._speed)

    def touch(self, row):
        self.set(row, max(self._priorities[row], self._speed))

    def evict(self):
        while 0 not in self._priorities.values():
            for row in self._priorities:
                self._priorities[row] -= 1
        victim = next(row for row, priority in self._priorities.items() if priority == 0)
        del self._priorities[victim]
        return victim


COUNTS = (
    *("calls", "lookups", "hits", "on_demand_fetches", "evictions"),
    *("prefetches_issued", "prefetches_useful", "prefetches_late", "prefetches_useless"),
    *("on_demand_device_reads", "prefetch_device_reads"),
)


def replay(accesses, keep, prefetches, *, chunk, capacity, eviction_speed, count_from=0):
    """Return the counts of `tieralloc._bindings.Simulator`; each access is a call, each row a page.

    `keep` has one flag per access of the complete chunks, `prefetches` the rows per chunk. A
    decision takes effect after the last access of its chunk.
    """
    buffer, unused = PriorityBuffer(eviction_speed), set()
    warm_up, counted = dict.fromkeys(COUNTS, 0), dict.fromkeys(COUNTS, 0)

    def admit(row, counts):
        if len(buffer) == capacity:
            victim = buffer.evict()
            counts["evictions"] += 1
            counts["prefetches_useless"] += victim in unused
            unused.discard(victim)
        buffer.insert(row)

    for i, row in enumerate(accesses):
        counts = warm_up if i < count_from else counted
        counts["calls"] += 1
        counts["lookups"] += 1
        if row in buffer:
            counts["hits"] += 1
            counts["prefetches_useful"] += row in unused
            unused.discard(row)
            buffer.touch(row)
        else:
            counts["on_demand_fetches"] += 1
            counts["on_demand_device_reads"] += 1
            admit(row, counts)
        if (i + 1) % chunk != 0:
            continue
        for j in range(i + 1 - chunk, i + 1):
            if accesses[j] in buffer:
                buffer.set(accesses[j], eviction_speed + bool(keep[j]))
        counts = warm_up if i + 1 < count_from else counted
        for prefetched in [r for r in dict.fromkeys(prefetches[i // chunk]) if r not in buffer]:
            counts["prefetches_issued"] += 1
            counts["prefetch_device_reads"] += 1
            admit(prefetched, counts)
            unused.add(prefetched)
    return counted
