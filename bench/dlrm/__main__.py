"""The command: `python -m bench.dlrm` serves, prints the tables and writes them."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bench import machine
from bench.dlrm import tables
from bench.dlrm.contenders import CONTENDERS, IN_DRAM, LABELS, LRU, Contender
from bench.dlrm.measure import Place, Scene, closed_rate, places
from bench.dlrm.model import refusal
from bench.dlrm.policies import trained
from bench.dlrm.requests import COUNT_FROM, Requests
from bench.dlrm.settings import BOTTOM_LAYERS, DENSE_FEATURES, FULL, QUICK, TOP_LAYERS, Settings
from bench.policies.__main__ import MODELS, RESULTS, TRACES, traces_in
from bench.scenery.cgroups import CgroupRefusedError, limited_reads
from tieralloc import trace
from tieralloc._disk import default_directory, file_system_of
from tieralloc._files import replacing
from tieralloc.simulate import OPT, simulate

NAME = "dlrm"


def main(arguments: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = _parser()
    options = parser.parse_args(given)
    lacking = refusal()
    if lacking is not None:
        print(f"skipped: {lacking}")
        return 0 if options.quick else 1
    if options.traces is not None and not traces_in(options.traces):
        parser.error(f"there is no trace in {options.traces}")
    parent = options.dir or default_directory()
    if file_system_of(parent).in_memory:
        parser.error(f"{parent} is memory, not a disk; choose one with --dir")
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes to come: requests are small
    settings = _settings(options)
    with tempfile.TemporaryDirectory(prefix="tieralloc-dlrm-", dir=parent) as temporary:
        directory = Path(temporary)
        try:
            with _disk(directory, settings.read_iops):
                content = _measure(options, settings, directory)
        except CgroupRefusedError as error:
            print(f"skipped: {error}")
            return 1
    content["command"] = shlex.join(["python", "-m", "bench.dlrm", *_public(given)])
    text = tables.markdown(content)
    print(f"\n{text}")
    out = options.out if options.out or options.quick else RESULTS
    if out is not None:
        _write(content, text, out)
    return 1 if content["refused"] else 0


def _settings(options: argparse.Namespace) -> Settings:
    base = QUICK if options.quick else FULL
    given = {
        name: value
        for name, value in (
            ("batch_size", options.batch_size),
            ("embedding_dim", options.embedding_dim),
            ("segments", options.segments),
            ("read_iops", options.read_iops),
            ("fast_fractions", options.fast_fraction and tuple(options.fast_fraction)),
        )
        if value
    }
    if options.closed:
        given["load_shares"] = ()
    return replace(base, **given)


def _disk(directory: Path, read_iops: int | None) -> AbstractContextManager[Any]:
    return nullcontext() if read_iops is None else limited_reads(directory, read_iops)


def _measure(options: argparse.Namespace, settings: Settings, directory: Path) -> dict[str, Any]:
    bottom = (DENSE_FEATURES, *BOTTOM_LAYERS, settings.embedding_dim)
    content: dict[str, Any] = {
        "title": "A DLRM served end to end",
        "benchmark": NAME,
        "machine": machine.describe(directory),
        "settings": {
            **asdict(settings),
            "mlps": f"{_layers(bottom)} and {_layers(TOP_LAYERS)}",
        },
        "refused": {},
        "traces": {},
        "records": [],
    }
    chosen = [
        contender
        for contender in CONTENDERS
        if contender.label in (options.only or LABELS) and (contender.in_quick or not options.quick)
    ]
    for path in _paths(options, settings, directory):
        requests = Requests(trace.read(path), settings)
        name = requests.trace.name
        content["traces"][name] = {**requests.unavoidable(), "opt": _opt(requests)}
        models = directory / "models" if options.quick else options.models
        policies = trained(
            path, requests.trace, chosen, models, settings.epochs, _teller(f"{name}: training")
        )
        for place in _places(options):
            for fraction in settings.fast_fractions:
                scene = Scene(path, requests, fraction, place, policies, directory)
                first = fraction == settings.fast_fractions[0]
                _measure_scene(scene, chosen, first, settings, content["records"])
                for label, why in scene.failed.items():
                    content["refused"][f"{label} on {name}, {place.name}"] = why
    return content


def _layers(sizes: Sequence[int]) -> str:
    return "-".join(map(str, sizes))


def _measure_scene(
    scene: Scene,
    chosen: Sequence[Contender],
    first: bool,
    settings: Settings,
    records: list[dict[str, Any]],
) -> None:
    """Measure a closed loop and then an open one, at rates that go by what LRU reached."""
    some = [contender for contender in chosen if contender.in_short]
    words = f"{scene.requests.trace.name}, {scene.fraction:g}, {scene.place.name}"
    rates = [None] if settings.fixed_rate is None else [None, settings.fixed_rate]
    closed = scene.measure(chosen if first else some, rates, _teller(words))
    records += closed
    _say(closed)
    reached = closed_rate(closed)
    if first and reached is not None and settings.load_shares:
        offered = [share * reached for share in settings.load_shares]
        records += scene.measure(some, offered, _teller(f"{words}, open loop"))


def _opt(requests: Requests) -> dict[str, float]:
    """Miss ratios of OPT, one access at a time."""
    fractions = requests.settings.fast_fractions
    found = simulate(requests.trace, [OPT], fractions, COUNT_FROM)
    return {str(record["fast_fraction"]): record["miss_ratio"] for record in found}


def _paths(options: argparse.Namespace, settings: Settings, directory: Path) -> list[Path]:
    if options.quick:
        print("A quick run: it shows that everything works, its figures mean nothing.")
    elif paths := traces_in(options.traces or TRACES):
        return paths
    else:
        print(f"No traces in {TRACES} (--traces says where they are): one is generated.")
    path = directory / "generated.npz"
    trace.write(trace.generate(num_samples=settings.num_samples), path)
    return [path]


def _places(options: argparse.Namespace) -> list[Place]:
    found = places(sorted(os.sched_getaffinity(0)))
    return found[:1] if options.quick or options.one_core else found


def _teller(what: str) -> Callable[[str], None]:
    def tell(words: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\033[K{what}: {words}", end="", file=sys.stderr, flush=True)

    return tell


def _say(records: Sequence[dict[str, Any]]) -> None:
    """A line for each contender, as soon as it is known."""
    for record in records:
        ratio = record["time_to_lru"]
        beside = "" if ratio is None else f", {ratio['median']:.3f} of LRU's time"
        print(
            f"{record['trace']} {record['fast_fraction']:g}, {record['placement']}: "
            f"{record['policy']}: {record['achieved_rate']:,.0f} requests/s{beside}",
            flush=True,
        )


def _public(given: Sequence[str]) -> list[str]:
    """The arguments without the directories of this machine."""
    return [Path(each).name if Path(each).is_absolute() else each for each in given]


def _write(content: dict[str, Any], text: str, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    iops = content["settings"]["read_iops"]
    what = NAME if iops is None else f"{NAME}-{iops}-reads"
    name = f"{what}-{machine.slug()}"
    records = ",\n".join(json.dumps(_rounded(r), ensure_ascii=False) for r in content["records"])
    about = json.dumps({k: v for k, v in content.items() if k != "records"}, ensure_ascii=False)
    with replacing(out / f"{name}.json") as file:
        file.write(f'{about[:-1]}, "records": [\n{records}\n]}}\n'.encode())
    with replacing(out / f"{what}.md") as file:
        file.write(text.encode())
    print(f"written to {out}: {name}.json, {what}.md")


def _rounded(record: dict[str, Any]) -> dict[str, Any]:
    return {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in record.items()}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.dlrm", description=__doc__)
    parser.add_argument(
        "--traces",
        type=Path,
        metavar="DIR",
        help=f"traces of any format, or one file (default: {TRACES}, else one is generated)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where table and records go (bench/results)"
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=LABELS,
        metavar="CONTENDER",
        help=f"serve with these ({IN_DRAM!r} and {LRU!r} are what others are compared with): "
        + ", ".join(LABELS),
    )
    parser.add_argument("--quick", action="store_true", help="small and short: a smoke test")
    parser.add_argument(
        "--models",
        type=Path,
        default=MODELS,
        metavar="DIR",
        help="where policies are trained into, and taken from (build/policies)",
    )
    parser.add_argument("--dir", type=Path, metavar="DIR", help="where slow tiers go, on a disk")
    parser.add_argument("--closed", action="store_true", help="no open loops")
    parser.add_argument("--one-core", action="store_true", help="only with one core for all")
    for name, kind, words in (
        ("batch-size", int, "samples a request"),
        ("embedding-dim", int, "elements of a row"),
        ("segments", int, "turns"),
    ):
        default = getattr(FULL, name.replace("-", "_"))
        parser.add_argument(f"--{name}", type=kind, metavar="N", help=f"{words} ({default})")
    parser.add_argument(
        "--read-iops",
        type=int,
        metavar="N",
        help="reads a second that the disk serves at most, as a slower one would (by a cgroup)",
    )
    parser.add_argument(
        "--fast-fraction",
        nargs="+",
        type=float,
        metavar="X",
        help=f"capacities: all contenders at the first, some at the others ({FULL.fast_fractions})",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
