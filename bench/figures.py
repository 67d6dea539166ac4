"""What was measured, as data: a figure with all its samples, and the target that it has to meet. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.stage import Stage


TIMES = "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True, slots=True)
class Target:
    """What a median has to reach (`at_least`) or must not exceed (`at_most`); one of the two."""

    at_least: float | None = None
    at_most: float | None = None

    def met(self, value: float) -> bool:
        """Whether a value is good enough."""
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    def __str__(self) -> str:
        return f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table: what it is, in which unit, one sample of each repetition.

    Ratios are made within a repetition and then the median is taken: what disturbs a machine disturbs both sides.
    """

    what: str
    unit: str
    samples: tuple[float, ...]
    target: Target | None = None

    @property
    def median(self) -> float:
        """What the table shows and what the target is held against."""
        return statistics.median(self.samples)

    @property
    def met(self) -> bool | None:
        """Whether the median meets the target; None without one."""
        return self.target.met(self.median) if self.target else None

    def as_json(self) -> dict[str, Any]:
        """Return everything that is known of the figure."""
        return {
            "what": self.what,
            "unit": self.unit,
            "median": self.median,
            "samples": list(self.samples),
            "target": str(self.target) if self.target else None,
            "met": self.met,
        }


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measurement: its name on the command line, what it is about in a line, and the function that makes it."""

    name: str
    about: str
    run: Callable[[Stage], Sequence[Figure]]


def ratios(over: Sequence[float], under: Sequence[float]) -> tuple[float, ...]:
    """Return the quotients of two series, repetition by repetition."""
    return tuple(a / b for a, b in zip(over, under, strict=True))


def shown(value: float, unit: str) -> str:
    """Return a value as people read it: three significant digits, or whole numbers with separators."""
    if abs(value) >= 100:
        return f"{value:,.0f} {unit}".strip()
    return f"{value:.3g} {unit}".strip() if abs(value) >= 1 else f"{value:.2f} {unit}".strip()
