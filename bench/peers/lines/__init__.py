"""The lines of what is to be reached, a file each. Line 7 is an option of `tieralloc replay`."""

from bench.peers.lines import hits, interference, mixed, on_demand, scale, threads

#: By the names that `--only` takes.
LINES = {
    "hits": hits,
    "on-demand": on_demand,
    "mixed": mixed,
    "interference": interference,
    "threads": threads,
    "scale": scale,
}
