"""The traces that studies run on: recorded ones where there are any, else a generated one."""

from __future__ import annotations

from pathlib import Path

from bench.scenery.arguments import QUICK_NOTE, TRACES
from tieralloc import trace

#: The share of a trace that policies learn from, and that warms the fast tier.
COUNT_FROM = 0.5
#: Capacities that policies are trained for.
FAST_FRACTIONS = (0.01, 0.05, 0.1, 0.2)


def traces_in(place: Path) -> list[Path]:
    """Return the traces of a directory by their suffixes; or the file that is given."""
    if place.is_file():
        return [place]
    suffixes = tuple(suffix for format in trace.FORMATS.values() for suffix in format.suffixes)
    return sorted(path for path in place.glob("*") if path.name.lower().endswith(suffixes))


def choose_traces(
    given: Path | None, directory: Path, *, quick: bool, num_samples: int
) -> list[Path]:
    """Return the recorded traces; for a quick run, or without any, one generated in `directory`.

    Raises
    ------
    SystemExit
        Where --traces names a place without traces.
    """
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
