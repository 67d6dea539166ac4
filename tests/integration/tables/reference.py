"""The tables of docs/tables.md: `python tests/integration/tables/reference.py docs/tables.md` writes them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from refusals import REFUSALS
from shape import BOTH, Shape
from shapes import SHAPES, SLOTS

_MARKED = re.compile(r"(<!-- (\w+), written by `make docs` -->\n).*?(<!-- end -->)", re.DOTALL)
GROUPS = ("Keys", "Names", "Columns", "Around the table", "Rights")


def render(text: str) -> str:
    """Return the page with its marked parts written anew. Raises KeyError for a mark that nothing is known about."""
    return _MARKED.sub(lambda match: f"{match[1]}\n{_PARTS[match[2]]()}\n\n{match[3]}", text)


def shapes() -> str:
    """Return the matrix: what a table may be, in groups."""
    return "\n\n".join(f"### {group}\n\n{_matrix(group)}" for group in GROUPS)


def refusals() -> str:
    """Return the table of what is refused in both layouts."""
    return _table(("what", "what pgvmig says"), ((r.what, f"`{_cell(r.said)}`") for r in REFUSALS))


def _matrix(group: str) -> str:
    rows = [
        (row.what, *(_support(shape, layout) for layout in BOTH), row.note)
        for shape in SHAPES
        for row in shape.rows
        if row.group == group
    ]
    if SLOTS.group == group:
        rows.append((SLOTS.what, "yes", "yes", SLOTS.note))
    return _table((group.lower(), "column layout", "table layout", "notes"), rows)


def _support(shape: Shape, layout: str) -> str:
    return "refused" if layout in shape.refused else "not every row" if layout in shape.failed else "yes"


_PARTS: dict[str, Callable[[], str]] = {"shapes": shapes, "refusals": refusals}


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join([_line(columns), f"|{'---|' * len(columns)}", *map(_line, rows)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(render(page.read_text(encoding="utf-8")), encoding="utf-8")
