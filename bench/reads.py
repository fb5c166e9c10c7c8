"""Device reads of requests: rows of float32 and int8, in random and in learned order, simulated.

`python -m bench.reads` learns an order of the rows of each trace, and recmg, on its first half, and
counts the pages that a policy reads in the second, on demand and ahead, by requests of 32 samples.
All lines of a capacity have the same DRAM, a share of the bytes of the rows in float32; the map of
an order is part of it, index and policy are not. The second table compares representations of the
map under lru.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.scenery import arguments
from bench.scenery.about import about
from bench.scenery.results import write_json
from bench.scenery.tables import markdown
from bench.scenery.traces import COUNT_FROM, choose_traces
from bench.scenery.trained import train
from tieralloc import trace as traces
from tieralloc._bindings import rows_per_page
from tieralloc._common.progress import bar
from tieralloc.order import Order, pages_of_rows
from tieralloc.policy.planned import PREFETCH_COST
from tieralloc.policy.registry import load_policy
from tieralloc.policy.simulator import run_simulator
from tieralloc.tools.arrange import arrange, partitioners
from tieralloc.trace import Trace
from tieralloc.trace.stream import Stream, count_distinct, first_counted

DIM = 64
FRACTIONS = (0.01, 0.05, 0.1, 0.2)
BATCH_SIZE = 32
#: Bytes of a row in the file and in a slot, by its type; int8 has a scale and a bias of 16 bits.
ROW_BYTES = {"float32": 4 * DIM, "int8": DIM + 4}
_MAP_FRACTION = 0.05


@dataclass(frozen=True)
class Line:
    """A line of the table of device reads."""

    policy: str
    rows: str
    order: str


POLICIES = ("lru", "s3fifo", "recmg-caching", "recmg")
LINES = [
    Line(policy, rows, order)
    for policy in POLICIES
    for rows in ROW_BYTES
    for order in ("random", "learned")
]


def main(given: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if given is None else list(given)
    options = arguments.make_parser("reads", __doc__, show=False).parse_args(given)
    with tempfile.TemporaryDirectory() as directory:
        paths = choose_traces(
            options.traces, Path(directory), quick=options.quick, num_samples=1 << 14
        )
        studied = [traces.read(path) for path in paths]
        models = Path(directory) / "models" if options.quick else options.models
        epochs = 1 if options.quick else None
        records = [record for trace in studied for record in measure(trace, models, epochs)]
    for trace in studied:
        mine = [record for record in records if record["trace"] == trace.name]
        print(f"\n{trace.name}, learned by {next(iter(partitioners()))}\n\n{table(mine)}")
        print(f"\nThe map at {_MAP_FRACTION:.0%}\n\n{map_table(mine)}")
    out = arguments.out_directory(options)
    if out is not None:
        command = arguments.public_command("reads", given)
        write_json(out / "reads.json", {**about(command), "records": records})
    return 0


def measure(trace: Trace, models: Path, epochs: int | None) -> list[dict[str, Any]]:
    """Return a record for each line and capacity, and each representation of the map."""
    loaded = {}
    learned = {line.policy for line in LINES} & {"recmg-caching", "recmg"}
    if learned:
        directory, _ = train(trace, "recmg", models, epochs=epochs)
        loaded = {name: load_policy(name, str(directory)) for name in sorted(learned)}
    stream = Stream.of(trace)
    accesses = stream.accesses
    distinct = count_distinct(accesses, int(trace.num_embeddings.sum()))
    first = first_counted(len(accesses), COUNT_FROM)
    orders = {
        rows: arrange(trace, rows_in_page(rows), COUNT_FROM, progress=bar) for rows in ROW_BYTES
    }
    jobs: list[tuple[dict[str, Any], int, Order | None, float]] = []
    for fraction in FRACTIONS:
        dram = fraction * distinct * ROW_BYTES["float32"]
        for line in LINES:
            order = orders[line.rows] if line.order == "learned" else None
            taken = 0 if order is None else map_bytes(order)
            jobs.append(
                ({"line": line, "fraction": fraction, "map_bytes": taken}, taken, order, dram)
            )
        if fraction == _MAP_FRACTION:
            order = orders["float32"]
            for name, size in REPRESENTATIONS.items():
                taken = size(order)
                about_map = {"line": Line("lru", "float32", name), "fraction": fraction}
                jobs.append(({**about_map, "map_bytes": taken}, taken, order, dram))
    records = []
    with bar(f"counting {trace.name}", len(jobs) * len(accesses), "accesses") as report:
        for fields, taken, order, dram in jobs:
            line = fields.pop("line")
            pages = pages_of_rows(trace, rows_in_page(line.rows), order)
            capacity = max(1, int((dram - taken) / ROW_BYTES[line.rows]))
            model = loaded.get(line.policy)
            counts = run_simulator(
                stream,
                line.policy if model is None else model.model_for(capacity),
                capacity,
                count_from=first,
                prefetch_cost=PREFETCH_COST,
                samples_per_call=BATCH_SIZE,
                pages=pages,
                report=report,
            ).counts
            reads = counts["on_demand_device_reads"] + counts["prefetch_device_reads"]
            records.append(
                {
                    "trace": trace.name,
                    "policy": line.policy,
                    "rows": line.rows,
                    "order": line.order,
                    **fields,
                    "arranged_rows": 0 if order is None else arranged_rows(order),
                    "fast_rows": capacity,
                    "on_demand_device_reads": counts["on_demand_device_reads"],
                    "prefetch_device_reads": counts["prefetch_device_reads"],
                    "device_reads_per_request": reads / max(1, counts["calls"]),
                }
            )
    return records


def rows_in_page(rows: str) -> int:
    """Return the rows of a page."""
    return rows_per_page(DIM, rows)


def arranged_rows(order: Order) -> int:
    return sum(len(table.rows) for table in order.tables.values())


def map_bytes(order: Order) -> int:
    """Return the DRAM of the store's map."""
    return sum(order.row_order(name).bytes for name in order.tables if len(order.tables[name].rows))


def _packed_slots(order: Order) -> int:
    """Return the bytes of a bit per row of the table, and a packed slot per arranged row."""
    sizes = [(table.num_embeddings, len(table.rows)) for table in order.tables.values()]
    return sum(
        int(rows / 8 * 16 / 15 + arranged * math.ceil(math.log2(arranged)) / 8)
        for rows, arranged in sizes
        if arranged > 1
    )


#: DRAM of representations of the map, for an order.
REPRESENTATIONS: dict[str, Callable[[Order], int]] = {
    "no DRAM (a bound)": lambda order: 0,
    "page per row, slot computed (the store's)": map_bytes,
    "slot per row, packed": _packed_slots,
    "hash of 32-bit rows and slots, .8 full": lambda order: int(arranged_rows(order) * 8 / 0.8),
    "slot per row of the table, 32 bits": lambda order: sum(
        4 * table.num_embeddings for table in order.tables.values() if len(table.rows)
    ),
}


def table(records: Sequence[dict[str, Any]]) -> str:
    """Return device reads per request, and their ratio to the first line of the capacity."""
    cells = []
    for line in LINES:
        cells.append([f"{line.policy}, {line.rows}, {line.order} order"])
        for fraction in FRACTIONS:
            reads = [
                record["device_reads_per_request"]
                for of in (line, LINES[0])
                for record in records
                if Line(record["policy"], record["rows"], record["order"]) == of
                and record["fraction"] == fraction
            ]
            ratio = reads[0] / reads[1] if reads[1] else 1.0
            cells[-1].append(f"{reads[0]:.1f} ({ratio:.3f})")
    return markdown(["pages a request (÷ first line)", *(f"{f:.0%}" for f in FRACTIONS)], cells)


def map_table(records: Sequence[dict[str, Any]]) -> str:
    """Return bytes per arranged row and device reads of each representation of the map."""
    base = next(
        record
        for record in records
        if Line(record["policy"], record["rows"], record["order"]) == LINES[0]
        and record["fraction"] == _MAP_FRACTION
    )
    cells = []
    for record in records:
        if record["order"] not in REPRESENTATIONS:
            continue
        per_row = record["map_bytes"] / max(1, record["arranged_rows"])
        ratio = record["device_reads_per_request"] / base["device_reads_per_request"]
        cells.append([record["order"], f"{per_row:.2f}", f"{ratio:.3f}"])
    return markdown(["map", "bytes per arranged row", "reads ÷ random order"], cells)


if __name__ == "__main__":
    sys.exit(main())
