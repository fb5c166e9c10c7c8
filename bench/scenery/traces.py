"""The traces of experiments: recorded traces, or a generated trace if there are none."""

from __future__ import annotations

from pathlib import Path

from bench.scenery.arguments import QUICK_NOTE, TRACES
from tieralloc import trace

#: Share of a trace to train policies and to warm up the fast tier.
COUNT_FROM = 0.5
#: Capacities for the training of policies.
FAST_FRACTIONS = (0.01, 0.05, 0.1, 0.2)


def traces_in(place: Path) -> list[Path]:
    """Return the traces of a directory by their suffixes; or the given file."""
    if place.is_file():
        return [place]
    suffixes = tuple(suffix for format in trace.FORMATS.values() for suffix in format.suffixes)
    return sorted(path for path in place.glob("*") if path.name.lower().endswith(suffixes))


def choose_traces(
    given: Path | None, directory: Path, *, quick: bool, num_samples: int
) -> list[Path]:
    """Return the recorded traces; for a quick run, or without any, one generated in `directory`."""
    if quick:
        print(QUICK_NOTE)
    elif paths := traces_in(given or TRACES):
        return paths
    elif given is not None:
        raise SystemExit(f"--traces: no trace in {given}")
    else:
        print("No recorded traces (--traces names their directory): one is generated.")
    path = directory / "generated.npz"
    trace.write(trace.generate(num_samples=num_samples), path)
    return [path]
