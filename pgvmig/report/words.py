"""Figures as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

NONE, MINUS = "\u2013", "\u2212"

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def duration(span: timedelta | float | None) -> str:
    """Return a time span in its two largest units: 0.4 s, 12 s, 3 min 5 s, 2 h 10 min, 12 d 4 h."""
    if span is None:
        return NONE
    seconds = span.total_seconds() if isinstance(span, timedelta) else span
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < _MINUTE:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"  # noqa: PLR2004
    for unit, name, smaller, small_name in (
        (_DAY, "d", _HOUR, "h"),
        (_HOUR, "h", _MINUTE, "min"),
        (_MINUTE, "min", 1, "s"),
    ):
        if seconds >= unit:
            whole, rest = divmod(seconds, unit)
            parts = f"{int(rest // smaller)} {small_name}"
            return f"{int(whole)} {name} {parts}" if rest >= smaller else f"{int(whole)} {name}"
    raise AssertionError(seconds)


def number(value: float | None, digits: int = 0) -> str:
    """Return a figure with thousands separated; small ones keep what says something."""
    if value is None:
        return NONE
    if digits == 0 and 0 < abs(value) < 10 and value != int(value):  # noqa: PLR2004
        digits = 2 if abs(value) < 1 else 1
    return f"{value:,.{digits}f}"


def figure(value: float | None) -> str:
    """Return a figure of any size with three digits that say something."""
    if value is None:
        return NONE
    digits = next((digits for least, digits in ((100, 0), (10, 1), (1, 2)) if abs(value) >= least), 3)
    return f"{value:,.{digits}f}".replace("-", MINUS)


def score(value: float | None) -> str:
    """Return a measure between 0 and 1 with three digits."""
    return NONE if value is None else f"{value:.3f}"


def signed(value: float | None) -> str:
    """Return a difference with its sign, a true minus for it."""
    return NONE if value is None else f"{value:+.3f}".replace("-", MINUS)


def percent(part: float | None, digits: int = 1) -> str:
    """Return a share; what is not quite everything is never rounded up to it."""
    if part is None:
        return NONE
    shown = f"{part * 100:.{digits}f}"
    if part < 1 and float(shown) == 100:  # noqa: PLR2004
        shown = f"{100 - 10**-digits:.{digits}f}"
    return f"{shown} %"


def moment(at: datetime) -> str:
    """Return a time as the page has them all: UTC, to the second."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def day(at: datetime) -> str:
    """Return the day and the minute."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M}"
