"""One table of a run: for the terminal, as Markdown, as JSON, and between the markers of a document."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.figures import Figure, Measurement, shown

_COLUMNS = ("measurement", "figure", "median", "range", "target", "met")
_WIDTH = 120
_SIGNS = {True: "yes", False: "**no**", None: ""}


@dataclass
class Report:
    """The figures of one run. `command` is what printed it, `section` its markers in the document."""

    command: str
    section: str
    machine: Mapping[str, str]
    measured: list[tuple[Measurement, list[Figure], float]] = field(default_factory=list)

    @property
    def missed(self) -> int:
        """How many targets were missed."""
        return sum(figure.met is False for _, figures, _ in self.measured for figure in figures)

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Yield the table's lines; the measurement's name stands in its first line only."""
        for measurement, figures, _ in self.measured:
            for i, figure in enumerate(figures):
                yield (measurement.name if i == 0 else "", *_cells(figure))

    def show(self) -> None:
        """Print the table for people."""
        table = Table(*_COLUMNS, title=self.command, caption=_sentence(self.machine))
        for column in (2, 3, 4):
            table.columns[column].justify = "right"
        for row in self.rows():
            if row[0]:
                table.add_section()
            table.add_row(*(cell.replace("**", "") for cell in row))
        Console(width=None if sys.stdout.isatty() else _WIDTH).print(table)

    def markdown(self) -> str:
        """Return the table with what it was measured on."""
        lines = [f"Printed by `{self.command}` on: {_sentence(self.machine)}.", ""]
        lines += [_line(_COLUMNS), _line(["---", "---", "---:", "---:", "---:", "---"])]
        lines += [_line(row) for row in self.rows()]
        return "\n".join(lines)

    def as_json(self) -> str:
        """Return everything, all samples included."""
        measured = [
            {"name": m.name, "about": m.about, "seconds": seconds, "figures": [figure.as_json() for figure in figures]}
            for m, figures, seconds in self.measured
        ]
        content = {"schema_version": 1, "command": self.command, "machine": dict(self.machine), "measured": measured}
        return json.dumps(content, indent=2, ensure_ascii=False)

    def write(self, document: Path) -> None:
        """Put the table between the section's markers. Raises ValueError for a document without them."""
        text = document.read_text(encoding="utf-8")
        begin, end = markers(self.section)
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"{document} has no markers {begin} … {end}")
        inside = f"{begin}\n{self.markdown()}\n{end}"
        document.write_text(pattern.sub(lambda _: inside, text, count=1), encoding="utf-8")


def markers(section: str) -> tuple[str, str]:
    """Return the lines between which a document has a section's table."""
    return f"<!-- {section}: begin -->", f"<!-- {section}: end -->"


def _cells(figure: Figure) -> tuple[str, ...]:
    spread = ""
    if len(figure.samples) > 1:
        spread = f"{shown(min(figure.samples), '')} … {shown(max(figure.samples), '')}"
    target = str(figure.target) if figure.target else ""
    return figure.what, shown(figure.median, figure.unit), spread, target, _SIGNS[figure.met]


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _sentence(machine: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {value}" for name, value in machine.items())
