"""Ablations of the engine and its network: each case changes one line of the source.

Copies the source of this checkout; for each choice changes a line, builds and counts. Policies are
trained on the first 80 % of each trace's first half and counted on the rest of that half, so that
the figures of `make policies` stay unseen. Run with ccache, or it takes an hour.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import process_time

from bench.policies import study
from bench.policies.measure import Replay
from bench.policies.study import Record, Study
from bench.scenery.arguments import make_parser, out_directory
from bench.scenery.traces import choose_traces
from tieralloc import trace as traces

ROOT = Path(__file__).parents[2]
FRACTIONS = (0.01, 0.1)
LEARNED, COUNTED = 0.4, 0.5  # shares of the accesses: the ends of training and of counting

AS_IS = "as it is"
_CORE = "tieralloc/_core/policy"
_MODEL = "policies/recmg/model.py"
#: By case: the file, a text in it, and the replacement.
CHOICES = {
    "values do not age": (f"{_CORE}/curve.cpp", "d = now - curve.at;", "d = 0 * now;"),
    "values are not calibrated": (
        f"{_CORE}/calibration.hpp",
        "offsets_[cell_of(value, elapsed)].load(std::memory_order_relaxed)",
        "static_cast<std::int32_t>(0 * elapsed)",
    ),
    **{
        f"the hand visits {slots} slots for an eviction, not 8": (
            f"{_CORE}/value_ranking.cpp",
            "kVisitsPerEviction = 8;",
            f"kVisitsPerEviction = {slots};",
        )
        for slots in (2, 32)
    },
    **{
        f"rows are evaluated {rows} at a time, not 24": (
            f"{_CORE}/row_model.hpp",
            "kBatch = 24;",
            f"kBatch = {rows};",
        )
        for rows in (1, 96)
    },
    "weights in int8, not float32 (run by torch)": (
        "policies/recmg/networks.py",
        "state[name].detach().numpy()",
        "_rounded(state[name].detach()).numpy()",
    ),
    **{
        f"hidden layers of {widths[0]} and {widths[1]}, not 32 and 16": (
            _MODEL,
            "_WIDTHS = (32, 16)",
            f"_WIDTHS = {widths}",
        )
        for widths in ((16, 8), (64, 32))
    },
}

#: Of each matrix, 255 levels; goes to the end of the file that int8 changes.
_ROUNDED = """

def _rounded(values: torch.Tensor) -> torch.Tensor:
    step = values.abs().max() / 127
    return (values / step).round() * step if values.dim() == 2 else values
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code. A child with --models counts for the parent."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if "--show" in given:
        return study.main(STUDY, __doc__, given)
    parser = make_parser("policies.choices", __doc__, models=False)
    parser.add_argument("--models", type=Path, help="for the command itself")
    options = parser.parse_args(given)
    with tempfile.TemporaryDirectory(prefix="tieralloc-choices-") as temporary:
        folder = Path(temporary)
        paths = choose_traces(options.traces, folder, quick=options.quick, num_samples=2000)
        if options.models is not None:
            json.dump([each for path in paths for each in count(path, options.models)], sys.stdout)
            return 0
        where = paths[0] if len(paths) == 1 else paths[0].parent.resolve()
        names = list(CHOICES)[: 1 if options.quick else None]
        records = [
            {"case": case, **record}
            for case in (AS_IS, *names)
            for record in _build_and_count(folder, case, where)
        ]
    study.keep(STUDY, records, given, out_directory(options))
    return 0


def count(path: Path, models: Path) -> list[Record]:
    """Train on a trace, if necessary; count recmg-caching at each capacity."""
    from tieralloc.policies.registry import trainer

    from tieralloc.policy.registry import load_policy

    made = traces.read(path)
    directory = models / path.stem
    if not (directory / "manifest.json").exists():
        trainer("recmg")(made, directory, list(FRACTIONS), until=LEARNED)
    replay = Replay(made, COUNTED, LEARNED / COUNTED)
    records = []
    for fraction in FRACTIONS:
        rows = replay.rows(fraction)
        model = load_policy("recmg-caching", str(directory)).model_for(rows)
        began = process_time()
        ratio = replay.run(model, rows)["miss_ratio"]
        spent = 1e6 * (process_time() - began) / len(replay.stream.accesses)
        place = {"trace": path.stem, "fast_fraction": fraction}
        records.append({**place, "miss_ratio": ratio, "us_per_access": spent})
    return records


def _build_and_count(folder: Path, case: str, where: Path) -> list[Record]:
    """Build a copy of the source with a choice changed, and count there."""
    print(f"{case} …", file=sys.stderr, flush=True)
    source = folder / "source"
    _copy_source(source)
    file, before, after = CHOICES.get(case, ("", "", ""))
    if file:
        text = (source / file).read_text()
        if text.count(before) != 1:
            raise ValueError(f"{file}: expected {before!r} once")
        extra = _ROUNDED if "_rounded" in after else ""
        (source / file).write_text(text.replace(before, after) + extra)
    build = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    quiet = subprocess.DEVNULL  # warnings of the compiler
    subprocess.run(build, cwd=source, check=True, stdout=quiet, stderr=quiet)
    models = folder / (case if file == _MODEL else "models")
    command = ["-m", "bench.policies.choices", "--traces", str(where), "--models", str(models)]
    done = subprocess.run(
        [sys.executable, *command], cwd=source, check=True, stdout=subprocess.PIPE
    )
    records: list[Record] = json.loads(done.stdout)
    return records


def _copy_source(source: Path) -> None:
    """Copy the tracked files that differ; the others keep their times, and are not rebuilt."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True)
    for name in listed.stdout.decode().split():
        here, there = ROOT / name, source / name
        if here.is_file() and not (there.exists() and there.read_bytes() == here.read_bytes()):
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(here, there)
    if not (source / "tieralloc" / "policies").exists():
        (source / "tieralloc" / "policies").symlink_to("../policies")


STUDY = Study(
    "choices",
    "recmg-caching: on-demand fetches ÷ lookups of the last fifth of each trace's first half,"
    " trained on the rest of it; in brackets CPU µs per access. One seed.",
    lambda case, path, models: count(path, models["recmg"]),
    lambda record: f"{record['miss_ratio']:.4f} ({record['us_per_access']:.2f})",
)

if __name__ == "__main__":
    sys.exit(main())
