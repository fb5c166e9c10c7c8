"""An experiment with trained policies: cases on each trace, a record per cell of its table.

An experiment is a module with a `Study`. Its command trains the policies that are not in --models,
measures each case of each trace in a child process, prints the table, and keeps
``bench/results/NAME.json``.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.scenery.about import about
from bench.scenery.arguments import make_parser, out_directory, public_command, read_result
from bench.scenery.processes import ChildFailedError, Job, run_jobs
from bench.scenery.results import from_columns, rounded, to_columns, write_json
from bench.scenery.tables import NONE, markdown
from bench.scenery.traces import FAST_FRACTIONS, choose_traces
from bench.scenery.trained import train
from tieralloc import trace as traces
from tieralloc.tools.report import percent

Record = dict[str, Any]
#: Directories of trained policies, by name.
Models = Mapping[str, Path]


@dataclass(frozen=True)
class Study:
    """The cases and measurements of an experiment, and the layout of its results."""

    name: str  # of the command and the result file
    about: str  # description of the figures
    #: From a case, the path of a trace and its models to records: of each cell the figures and the
    #: fields of `columns` but the trace; with ``case`` if one call measures several.
    measure: Callable[[str, Path, Models], Iterable[Record]]
    text: Callable[[Record], str]  # of a cell
    cases: Sequence[str] = ("",)  # measured one by one; the rows of the table
    columns: tuple[str, ...] = ("trace", "fast_fraction")
    policies: tuple[str, ...] = ("recmg",)  # trained first
    processes: int = 2
    summary: Callable[[Sequence[Record]], str] = lambda records: ""  # below the table
    command: str = ""  # the module below bench, unless it is policies.NAME

    @property
    def module(self) -> str:
        return self.command or f"policies.{self.name}"


def main(study: Study, words: str | None, arguments: Sequence[str] | None = None) -> int:
    """Run the command of an experiment; return its exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = make_parser(study.module, words, jobs=study.processes).parse_args(given)
    if options.show:
        print(page(study, read_result(options, study.name)))
        return 0
    with tempfile.TemporaryDirectory(prefix="tieralloc-study-") as temporary:
        scratch = Path(temporary)
        samples = 600 if options.quick else 32768
        paths = choose_traces(options.traces, scratch, quick=options.quick, num_samples=samples)
        models = scratch if options.quick else options.models
        jobs = [
            Job(f"{case} {path.stem}".strip(), measure_case, (study.measure, case, path, trained))
            for path in paths
            for trained in [_train(study, path, models, 1 if options.quick else None)]
            for case in study.cases
        ]
        measured = {}
        for job, result in run_jobs(jobs, options.jobs):
            if isinstance(result, ChildFailedError):
                print(result, file=sys.stderr)
                return 1
            measured[job.name] = result
    records = [record for job in jobs for record in measured[job.name]]
    keep(study, records, given, out_directory(options))
    return 0


def measure_case(
    measure: Callable[[str, Path, Models], Iterable[Record]], case: str, path: Path, models: Models
) -> list[Record]:
    """Measure a case, and name case and trace in its records."""
    return [{"case": case, "trace": path.stem, **each} for each in measure(case, path, models)]


def keep(study: Study, records: Sequence[Record], given: Sequence[str], out: Path | None) -> None:
    """Print the table, and write the result file into a directory, if one is given."""
    head = about(public_command(study.module, given))
    content = rounded({**head, **to_columns(records)})
    if out is not None:
        write_json(out / f"{study.name}.json", content)
    print(page(study, content))


def page(study: Study, content: Mapping[str, Any]) -> str:
    """Return the text of a result: description, table, command and machine."""
    records = from_columns(content)
    columns = dict.fromkeys(tuple(r[name] for name in study.columns) for r in records)
    texts = {(r["case"], tuple(r[name] for name in study.columns)): study.text(r) for r in records}
    rows = (
        [case, *(texts.get((case, column), NONE) for column in columns)]
        for case in dict.fromkeys(record["case"] for record in records)
    )
    heads = (_heading(study.columns, column) for column in columns)
    measured = f"{content['machine']}; commit {content['commit']}; `{content['command']}`"
    parts = (study.about, markdown(["", *heads], rows), study.summary(records), measured)
    return "\n\n".join(part for part in parts if part)


def _heading(names: Sequence[str], column: Sequence[Any]) -> str:
    plain = {"trace": str, "fast_fraction": percent}
    texts = (
        plain[name](value) if name in plain else f"{name.replace('_', ' ')} {value}"
        for name, value in zip(names, column, strict=True)
    )
    return ", ".join(texts)


def _train(study: Study, path: Path, models: Path, epochs: int | None) -> dict[str, Path]:
    """Train the policies of an experiment on a trace, if necessary."""
    made = traces.read(path)
    return {
        policy: train(made, policy, models, fast_fractions=FAST_FRACTIONS, epochs=epochs)[0]
        for policy in study.policies
    }
