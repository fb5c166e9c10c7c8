"""``python -m bench.page RESULTS.json --out DIR`` makes one HTML page of a result file.

The page begins with the conclusion. Every list of records, or columns with rows, becomes a table;
records of policies also get a plot of each trace. The page loads no other file.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment

from bench.dlrm.tables import conclusions as conclude_dlrm
from tieralloc._common.files import replacing
from tieralloc.tools.conclusions import conclude
from tieralloc.tools.plots.records import draw
from tieralloc.tools.report import device_reads

_POLICY_FIELDS = {"policy", "trace", "fast_fraction", "fast_rows", "lookups", "miss_ratio"}

_PAGE = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark }
body { font: 15px/1.45 system-ui, sans-serif; margin: 1rem auto; padding: 0 1rem }
.wide { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #8884 }
th, td { vertical-align: top }
th { position: sticky; top: 0; background: Canvas } td.text, th.text { text-align: left }
.conclusion { font-size: 1.15em; max-width: 60em }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; font-size: .85em }
dd { margin: 0; overflow-wrap: anywhere }
dt { font-weight: 600 }
svg { max-width: 100%; min-width: 36rem; height: auto; background: #fff }
td { white-space: nowrap }
</style></head><body>
<h1>{{ title }}</h1>
{% for sentence in conclusions %}<p class="conclusion">{{ sentence }}</p>
{% endfor %}
{% if about %}<dl>{% for name, value in about %}<dt>{{ name }}</dt><dd>{{ value }}</dd>{% endfor %}
</dl>{% endif %}
{% for table in tables %}<h2>{{ table.name }}</h2>
{% if table.plot %}<div class="wide">{{ table.plot | safe }}</div>{% endif %}
<p>{% for name, value in table.same if value %}{{ name.replace("_", " ") }}: {{ value }}
{%- if not loop.last %}; {% endif %}{% endfor %}</p>
<div class="wide"><table><tr>{% for column in table.columns %}
<th{% if column in table.texts %} class="text"{% endif %}>{{ column.replace("_", " ") }}</th>
{% endfor %}</tr>
{% for row in table.rows %}<tr>{% for column, cell in zip(table.columns, row) %}
<td{% if column in table.texts %} class="text"{% endif %}>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table></div>
{% endfor %}</body></html>
"""


class Table(NamedTuple):
    """One table of the page."""

    name: str
    columns: list[str]
    texts: set[str]  # columns of text
    rows: list[list[str]]
    same: list[tuple[str, str]]  # columns whose cells are all equal
    plot: str  # SVG, or empty
    conclusions: list[str]


def write_page(results: Path, directory: Path) -> Path:
    """Make ``index.html`` in a directory, from a result file; return its path.

    Raises
    ------
    ValueError
        For a file that is not JSON or holds no records.
    """
    try:
        content = json.loads(results.read_bytes())
    except ValueError as error:
        raise ValueError(f"{results}: expected JSON, got {error}") from None
    tables = [table for name, records in _lists(content) for table in _tables(name, records)]
    if not tables:
        raise ValueError(f"{results}: expected a list of records, got none")
    template = Environment(autoescape=True).from_string(_PAGE)
    about = list(_about(content)) if isinstance(content, Mapping) else []
    conclusions = [sentence for table in tables for sentence in table.conclusions]
    text = template.render(
        title=results.stem, about=about, tables=tables, conclusions=conclusions, zip=zip
    )
    page = directory / "index.html"
    directory.mkdir(parents=True, exist_ok=True)
    with replacing(page) as file:
        file.write(text.encode())
    return page


def _lists(content: Any, name: str = "records") -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield all lists of records in a JSON value, at any depth."""
    if isinstance(content, list) and content and all(isinstance(each, dict) for each in content):
        yield name, content
        for each in content:
            label = next((value for value in each.values() if isinstance(value, str)), name)
            yield from _lists({k: v for k, v in each.items() if isinstance(v, list)}, label)
    elif isinstance(content, dict):
        if content.keys() >= {"columns", "rows"}:
            columns = content["columns"]
            yield name, [dict(zip(columns, row, strict=True)) for row in content["rows"]]
        for key, value in content.items():
            yield from _lists(value, key if name == "records" else f"{name}: {key}")


def _about(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _about(value, f"{prefix}{key} ")
        elif not isinstance(value, list):
            yield (prefix + key).replace("_", " "), _cell(value)


def _tables(name: str, records: Sequence[dict[str, Any]]) -> Iterator[Table]:
    has_plot = all(record.keys() >= _POLICY_FIELDS for record in records)
    if not has_plot or any("loop" in r and "calls" not in r for r in records):
        yield _table(name, records, "", _conclude(name, records))
        return
    for trace in dict.fromkeys(record["trace"] for record in records):
        of_trace = [record for record in records if record["trace"] == trace]
        conclusion = f"{trace}: {conclude(of_trace)}"
        shown = [{**record, "device_reads": device_reads(record)} for record in of_trace]
        yield _table(f"{name}: {trace}", shown, _plot(of_trace), [conclusion])


def _conclude(name: str, records: Sequence[dict[str, Any]]) -> list[str]:
    """Return DLRM's conclusions, or the share of the targets that are reached."""
    if all("time_to_lru" in record for record in records):
        return conclude_dlrm(records)
    reached = [record["reached"] for record in records if isinstance(record.get("reached"), bool)]
    return [f"{name}: {sum(reached)} of {len(reached)} targets are reached."] if reached else []


def _table(
    name: str, records: Sequence[dict[str, Any]], plot: str, conclusions: list[str]
) -> Table:
    scalars = (str, int, float, bool, type(None))
    keys = dict.fromkeys(key for record in records for key in record)
    columns = [key for key in keys if all(isinstance(r.get(key), scalars) for r in records)]
    cells = {key: [_cell(record.get(key)) for record in records] for key in columns}
    same = {key: cells[key][0] for key in columns if len(set(cells[key])) == 1 < len(records)}
    columns = [key for key in columns if key not in same]
    texts = {key for key in columns if any(isinstance(r.get(key), str) for r in records)}
    rows = [list(row) for row in zip(*(cells[key] for key in columns), strict=True)]
    return Table(name, columns, texts, rows, list(same.items()), plot, conclusions)


def _plot(records: Sequence[dict[str, Any]]) -> str:
    buffer = io.StringIO()
    draw(records).savefig(buffer, format="svg")
    return buffer.getvalue().partition("<svg")[2].join(("<svg", ""))


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "" if value is None else str(value)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m bench.page", description=__doc__)
    parser.add_argument("results", type=Path, metavar="RESULTS.json")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    arguments = parser.parse_args()
    try:
        page = write_page(arguments.results, arguments.out)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f"wrote {page}")


if __name__ == "__main__":
    main()
