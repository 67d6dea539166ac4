"""The tables of docs/pacing.md, written from the code: `python -m pgvmig.cli.pacing_reference docs/pacing.md`."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from pgvmig.backfill.gates import PAUSE_PATIENCE
from pgvmig.pacing import controller
from pgvmig.pacing.configured import written
from pgvmig.pacing.limits import settings
from pgvmig.pacing.pacer import DEFAULT_CEILING
from pgvmig.pacing.registry import SIGNALS

_MARKED = re.compile(r"(<!-- (\w+), written by `make docs` -->\n).*?(<!-- end -->)", re.DOTALL)


def render(text: str) -> str:
    """Return the page with its marked parts written anew. Raises KeyError for a mark that nothing is known about."""
    return _MARKED.sub(lambda match: f"{match[1]}\n{_PARTS[match[2]]()}\n\n{match[3]}", text)


def signals() -> str:
    """Return the table of signals."""
    rows = ((s.name, s.meaning, s.incident, ", ".join(f"`{name}`" for name in s.limits) or "-") for s in SIGNALS)
    return _table(("signal", "is OK while", "the incident that it prevents", "limits"), rows)


def limits() -> str:
    """Return the table of limits."""
    rows = (
        (
            f"`{setting.name}`",
            _sentence(setting.metadata["help"]),
            f"`{written(setting, setting.default)}`",
            "yes" if setting.metadata["live"] else "no",
            setting.metadata["incident"],
        )
        for setting in settings()
    )
    return _table(("limit", "what it is", "default", "live", "the incident that it prevents"), rows)


def constants() -> str:
    """Return the table of what the control law does not let anybody choose."""
    rows = (
        ("rows in the first batch", f"{controller.FIRST_BATCH}"),
        ("rows in a batch, at most (`--max-batch-size`)", f"{DEFAULT_CEILING}"),
        ("growth from one batch to the next, at most", f"{controller.GROWTH - 1:.0%}"),
        ("speed after a stop", f"{controller.AFTER_STOP:.0%} of what it was, never under {controller.SLOWEST:.0%}"),
        ("running time in which half of the speed comes back", f"{controller.RECOVERY_SECONDS:.0f} s"),
        ("hibernation", f"{controller.HIBERNATION_SECONDS:.0f} s"),
        ("pause after a batch, at most", f"{controller.LONGEST_PAUSE:.0f} s"),
        ("how long a run without `--follow` waits for an operator's pause to end", f"{PAUSE_PATIENCE:.0f} s"),
    )
    return _table(("what", "value"), rows)


_PARTS: dict[str, Callable[[], str]] = {"signals": signals, "limits": limits, "constants": constants}


def _sentence(text: str) -> str:
    return text.replace("|", "\\|")


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    ruler = f"|{'---|' * len(columns)}"
    return "\n".join([_line(columns), ruler, *map(_line, rows)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(render(page.read_text(encoding="utf-8")), encoding="utf-8")
