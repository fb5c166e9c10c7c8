"""What the choices in the engine and its network are worth: a line of the source changed at a time.

Copies the source of this checkout, and for each choice changes a line, builds and counts: trained
on the first 80 % of each trace's first half, counted on the rest of that half. What `make policies`
counts is not looked at. Writes ``choices.md``. Run with ccache, or it takes an hour.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import process_time

from bench.policies.study import line
from tieralloc import trace as traces
from tieralloc.policy.simulator import run_simulator
from tieralloc.tools.report import percent
from tieralloc.trace.stream import Stream, count_distinct, fast_rows

ROOT = Path(__file__).parents[2]
FRACTIONS = (0.01, 0.1)
LEARNED, COUNTED = 0.4, 0.5  # shares of the accesses: until where it learns, and is counted

_CORE = "tieralloc/_core/policy"


@dataclass(frozen=True)
class Choice:
    """A changed choice.

    Parameters
    ----------
    label : str
        The change.
    file, before, after : str
        What of which file is replaced by what.
    """

    label: str
    file: str
    before: str
    after: str

    @property
    def trains(self) -> bool:
        """Whether the network differs."""
        return self.file.startswith("policies/recmg/model")


CHOICES = (
    Choice("values do not age", f"{_CORE}/curve.cpp", "d = now - curve.at;", "d = 0 * now;"),
    Choice(
        "values are not calibrated",
        f"{_CORE}/calibration.hpp",
        "offsets_[cell_of(value, elapsed)].load(std::memory_order_relaxed)",
        "static_cast<std::int32_t>(0 * elapsed)",
    ),
    *(
        Choice(
            f"the hand visits {slots} slots for an eviction, not 8",
            f"{_CORE}/value_ranking.cpp",
            "kSweep = 8;",
            f"kSweep = {slots};",
        )
        for slots in (2, 32)
    ),
    *(
        Choice(
            f"rows are evaluated {rows} at a time, not 24",
            f"{_CORE}/row_model.hpp",
            "kBatch = 24;",
            f"kBatch = {rows};",
        )
        for rows in (1, 96)
    ),
    Choice(
        "weights in int8, not float32 (run by torch)",
        "policies/recmg/networks.py",
        "state[name].detach().numpy()",
        "_rounded(state[name].detach()).numpy()",
    ),
    *(
        Choice(
            f"hidden layers of {widths[0]} and {widths[1]}, not 32 and 16",
            "policies/recmg/model.py",
            "_WIDTHS = (32, 16)",
            f"_WIDTHS = {widths}",
        )
        for widths in ((16, 8), (64, 32))
    ),
)

#: Of each matrix, 255 levels; goes to the end of the file that int8 changes.
_ROUNDED = """

def _rounded(values: torch.Tensor) -> torch.Tensor:
    step = values.abs().max() / 127
    return (values / step).round() * step if values.dim() == 2 else values
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = ArgumentParser(prog="python -m bench.policies.choices", description=__doc__)
    parser.add_argument("--traces", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results", metavar="DIR")
    parser.add_argument("--models", type=Path, help="for the command itself")
    options = parser.parse_args(arguments)
    paths = sorted(options.traces.resolve().glob("*.npz"))
    if options.models is not None:
        json.dump([cell for path in paths for cell in count(path, options.models)], sys.stdout)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        found = {"**as it is**": _build_and_count(Path(folder), None, paths[0].parent)}
        for choice in CHOICES:
            found[choice.label] = _build_and_count(Path(folder), choice, paths[0].parent)
    text = table([path.stem for path in paths], found)
    (options.out / "choices.md").write_text(text)
    print(text)
    return 0


def count(path: Path, models: Path) -> list[tuple[float, float]]:
    """Train on a trace, unless that is done; return miss ratio and µs an access, by capacity."""
    from tieralloc.policies.registry import trainer

    from tieralloc.policy.registry import load_policy

    made = traces.read(path)
    directory = models / path.stem
    if not (directory / "manifest.json").exists():
        trainer("recmg")(made, directory, list(FRACTIONS), until=LEARNED)
    stream = Stream.of(made, COUNTED)
    distinct = count_distinct(made.accesses(), stream.rows)
    first = int(len(stream.accesses) * LEARNED / COUNTED)
    cells = []
    for fraction in FRACTIONS:
        rows = fast_rows(fraction, distinct)
        model = load_policy("recmg-caching", str(directory)).model_for(rows)
        began = process_time()
        counts = run_simulator(stream, model, rows, count_from=first).counts
        spent = 1e6 * (process_time() - began) / len(stream.accesses)
        cells.append((counts["on_demand_fetches"] / counts["lookups"], spent))
    return cells


def _build_and_count(folder: Path, choice: Choice | None, where: Path) -> list[tuple[float, float]]:
    """Build a copy of the source with a choice changed, and count there."""
    print(f"{'as it is' if choice is None else choice.label} …", file=sys.stderr, flush=True)
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True)
    source = folder / "source"
    for name in listed.stdout.decode().split():
        if (ROOT / name).is_file() and not _is_same(ROOT / name, source / name):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    if not (source / "tieralloc" / "policies").exists():
        (source / "tieralloc" / "policies").symlink_to("../policies")
    if choice is not None:
        text = (source / choice.file).read_text()
        if text.count(choice.before) != 1:
            raise ValueError(f"{choice.file}: expected {choice.before!r} once")
        extra = _ROUNDED if "_rounded" in choice.after else ""
        (source / choice.file).write_text(text.replace(choice.before, choice.after) + extra)
    build = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    quiet = subprocess.DEVNULL  # warnings of the compiler
    subprocess.run(build, cwd=source, check=True, stdout=quiet, stderr=quiet)
    models = folder / ("models" if choice is None or not choice.trains else choice.label)
    command = ["-m", "bench.policies.choices", "--traces", where, "--models", models]
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=source, check=True, stdout=subprocess.PIPE
    )
    cells: list[tuple[float, float]] = json.loads(done.stdout)
    return cells


def _is_same(one: Path, other: Path) -> bool:
    return other.exists() and one.read_bytes() == other.read_bytes()


def table(names: Sequence[str], found: dict[str, list[tuple[float, float]]]) -> str:
    """Lay out what was found: a line for each choice, a column for each trace and capacity."""
    heads = [f"{name} {percent(fraction)}" for name in names for fraction in FRACTIONS]
    lines = [line(["", *heads]), line(["---", *["---:"] * len(heads)])]
    for label, cells in found.items():
        lines.append(line([label, *(f"{ratio:.4f} ({spent:.2f})" for ratio, spent in cells)]))
    return (
        "# What the choices in the engine are worth\n\n"
        "recmg-caching: on-demand fetches ÷ lookups of the last fifth of each trace's first half,"
        " trained on what precedes, and in brackets µs of CPU an access. One seed;"
        " `python -m bench.policies.choices --traces DIR`.\n\n" + "\n".join(lines) + "\n"
    )


if __name__ == "__main__":
    sys.exit(main())
