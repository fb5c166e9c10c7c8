"""Parts of a page: text made safe, tables, bars. Whatever comes from a file goes through `text`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

#: Markup, as opposed to text that has yet to be made safe.
Markup = str

NOTHING = "\N{EN DASH}"


class Cell(NamedTuple):
    """A cell of a table."""

    main: str  # text
    side: str = ""  # text that is set smaller beneath
    best: bool = False
    good: bool | None = None  # whether a target is reached


class Part(NamedTuple):
    """A part of a bar."""

    name: str
    share: float  # of the longest bar
    colour: int  # of the palette


def text(value: object) -> Markup:
    """Make a value safe to stand in a page, in an attribute too."""
    return escape(str(value), quote=True)


def element(name: str, content: Markup, kind: str = "") -> Markup:
    """Wrap markup in an element; `kind` is its class."""
    return f"<{name}{f' class={chr(34)}{text(kind)}{chr(34)}' if kind else ''}>{content}</{name}>"


def paragraph(words: str, kind: str = "") -> Markup:
    """Make a paragraph of text."""
    return element("p", text(words), kind)


def section(title: str, parts: Iterable[Markup], level: int = 3) -> Markup:
    """Head some parts with a title; nothing where there are none."""
    body = "\n".join(part for part in parts if part)
    if not body:
        return ""
    return element("section", f"<h{level}>{text(title)}</h{level}>\n{body}")


def details(title: str, parts: Iterable[Markup]) -> Markup:
    """Hide parts behind a title that opens them; nothing where there are none."""
    body = "\n".join(part for part in parts if part)
    return f"<details><summary>{text(title)}</summary>\n{body}</details>" if body else ""


def table(
    head: Sequence[str], rows: Sequence[Sequence[Cell | str]], texts: Sequence[int] = ()
) -> Markup:
    """Lay out rows, the first column being their names.

    Parameters
    ----------
    head : sequence of str
        Names of the columns.
    rows : sequence of sequence of Cell or str
        As many cells each.
    texts : sequence of int
        Columns beside the first that hold words and not figures.
    """
    if not rows:
        return ""
    columns = [
        f'<th scope="col"{_side(place, texts)}>{text(name)}</th>' for place, name in enumerate(head)
    ]
    lines = []
    for name, *cells in rows:
        heading = f'<th scope="row">{_inside(name)}</th>'
        rest = [_cell(cell, place, texts) for place, cell in enumerate(cells, 1)]
        lines.append(element("tr", "".join([heading, *rest])))
    top = element("thead", element("tr", "".join(columns)))
    body = element("tbody", "\n".join(lines))
    return f'<div class="scroll" tabindex="0"><table>{top}\n{body}</table></div>'


def bars(
    rows: Sequence[tuple[str, Sequence[Part], str]], label: str, marks: Sequence[float | None] = ()
) -> Markup:
    """Draw a bar for each row, of parts one upon the other.

    Parameters
    ----------
    rows : sequence of (str, sequence of Part, str)
        Name, parts, and what stands behind the bar.
    label : str
        What is drawn.
    marks : sequence of float or None
        Where each bar has a mark, as a share of the longest bar.
    """
    lines = []
    for place, (name, parts, value) in enumerate(rows):
        fills = "".join(
            f'<span class="fill c{part.colour}" style="width:{100 * part.share:.2f}%" '
            f'title="{text(part.name)}"></span>'
            for part in parts
            if part.share > 0
        )
        mark = marks[place] if marks else None
        if mark is not None and 0 <= mark <= 1:
            fills += f'<span class="mark" style="left:{100 * mark:.2f}%"></span>'
        lines.append(
            f'<span class="name">{text(name)}</span><span class="track">{fills}</span>'
            f'<span class="value">{text(value)}</span>'
        )
    return figure(f'<div class="bars">{"".join(lines)}</div>', label)


def figure(content: Markup, label: str) -> Markup:
    """Make a figure under a heading of its own."""
    return f"<figure><figcaption>{text(label)}</figcaption>{content}</figure>"


def grid(figures: Iterable[Markup], *, small: bool = False) -> Markup:
    """Set figures side by side, as many as there is room for; small ones take less of it."""
    parts = [part for part in figures if part]
    kind = "grid lone" if len(parts) == 1 else "grid small" if small else "grid"
    return element("div", "\n".join(parts), kind) if parts else ""


def legend(names: Sequence[tuple[str, int]]) -> Markup:
    """Say which colour stands for what."""
    keys = (f'<span><i class="key c{colour}"></i>{text(name)}</span>' for name, colour in names)
    return element("p", " ".join(keys), "legend")


def _side(place: int, texts: Sequence[int]) -> str:
    return ' class="words"' if place == 0 or place in texts else ""


def _cell(cell: Cell | str, place: int, texts: Sequence[int]) -> Markup:
    kinds = ["words"] if place in texts else []
    if isinstance(cell, Cell):
        kinds += ["best"] if cell.best else []
        kinds += [] if cell.good is None else ["yes" if cell.good else "no"]
    return element("td", _inside(cell), " ".join(kinds))


def _inside(cell: Cell | str) -> Markup:
    if isinstance(cell, str):
        return text(cell)
    return text(cell.main) + (f"<small>{text(cell.side)}</small>" if cell.side else "")
