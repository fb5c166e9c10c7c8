"""A result file as one HTML page."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tieralloc._common.files import replacing
from tieralloc.tools.page import lines, records
from tieralloc.tools.page.charts import Charts
from tieralloc.tools.page.html import Markup, element, paragraph, text
from tieralloc.tools.page.results import Lines, Records, read_results
from tieralloc.tools.page.style import STYLE
from tieralloc.tools.plots.records import check_plot
from tieralloc.tools.report import percent

#: The page's name in its directory.
PAGE = "index.html"

_MOST = 12  # values of a list that are shown
#: The browser itself is told to load nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def write_page(path: str | os.PathLike[str], directory: str | os.PathLike[str]) -> Path:
    """Make a page of a result file.

    Parameters
    ----------
    path : path
        As for `read_results`.
    directory : path
        Where the page goes, as ``index.html``; made where there is none.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    ValueError
        For a file that is no result of this project's.
    ImportError
        Where matplotlib is not installed.
    OSError
        Where the file cannot be read or the page cannot be written.
    """
    check_plot("page.svg")
    made = to_page(read_results(path), Path(path).name)
    page = Path(directory) / PAGE
    page.parent.mkdir(parents=True, exist_ok=True)
    with replacing(page) as file:
        file.write(made.encode())
    return page


def to_page(results: Records | Lines, source: str) -> str:
    """Return the HTML of results that were read from a file of the name `source`."""
    if isinstance(results, Records):
        title = _title_of_records(results)
        sections = records.sections_of(results.records, Charts())
        conditions = records.conditions_of(results.records)
    else:
        title = "Beside peers"
        sections = lines.sections_of(results.lines)
        conditions = []
    known = {name for name, _ in conditions}
    conditions += [(name, value) for name, value in _about(results.about) if name not in known]
    return _page(title, source, conditions, sections)


def _page(
    title: str,
    source: str,
    conditions: Sequence[tuple[str, str]],
    sections: Sequence[tuple[str, Markup]],
) -> str:
    anchors = _anchors([name for name, _ in sections])
    links = [
        f'<a href="#{anchor}">{text(name.partition(":")[0])}</a>'
        for (name, _), anchor in zip(sections, anchors, strict=True)
    ]
    body = [
        element("h1", text(title)),
        paragraph(f"From {source}.", "note"),
        _definitions(conditions),
        element("nav", " ".join(links)) if len(links) > 1 else "",
        *(
            f'<section><h2 id="{anchor}">{text(name)}</h2>\n{markup}</section>'
            for (name, markup), anchor in zip(sections, anchors, strict=True)
        ),
        element("footer", paragraph("Made by tieralloc report. Loads nothing.")),
    ]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            f"<title>{text(title)}</title>",
            f"<style>{STYLE}</style></head>",
            f"<body><main>{chr(10).join(part for part in body if part)}</main></body></html>\n",
        ]
    )


def _title_of_records(results: Records) -> str:
    traces = list(dict.fromkeys(record["trace"] for record in results.records))
    fractions = sorted({record["fast_fraction"] for record in results.records})
    named = results.about.get("title")
    if isinstance(named, str):
        return named
    policies = len({record["policy"] for record in results.records})
    what = f"{policies} policies" if policies > 1 else results.records[0]["policy"]
    return f"{', '.join(traces)}: {what} with {_list(fractions)} of the rows in DRAM"


def _list(fractions: Sequence[float]) -> str:
    *most, last = [percent(fraction) for fraction in fractions]
    return f"{', '.join(most)} and {last}" if most else last


def _definitions(conditions: Sequence[tuple[str, str]]) -> Markup:
    pairs = "".join(
        f"{element('dt', text(name))}{element('dd', text(value))}" for name, value in conditions
    )
    return element("dl", pairs) if pairs else ""


def _about(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Say in words what a file says of its run."""
    found = []
    for key, value in about.items():
        if key == "title":
            continue
        if key == "machine" and isinstance(value, Mapping):
            found += _about(value)
        elif not _is_records(value) and (words := _in_words(value)):
            found.append((key.replace("_", " "), words))
    return found


def _is_records(value: Any) -> bool:
    """Whether this is more than can be said in a line."""
    return isinstance(value, list) and any(isinstance(each, Mapping) for each in value)


def _in_words(value: Any) -> str:
    if isinstance(value, Mapping):
        words = {key: _in_words(each) for key, each in value.items()}
        return ", ".join(f"{key.replace('_', ' ')} {each}" for key, each in words.items() if each)
    if isinstance(value, list):
        return " ".join(map(_in_words, value[:_MOST])) + (" …" if len(value) > _MOST else "")
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None or value is False else str(value)


def _anchors(names: Sequence[str]) -> list[str]:
    """Name each section as an address can, each another."""
    return [
        f"s{place}-{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')[:40]}"
        for place, name in enumerate(names)
    ]
