"""Plots as SVG by matplotlib, one look for all of them.

Colours become the page's variables and text stays text, so that a plot follows the theme and is found, read aloud and
printed like the rest. Each is drawn twice, wide and narrow: a wide one shrunk to a phone cannot be read.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure as Canvas

from pgvmig.report.palette import drawn, variables
from pgvmig.report.safe import line, visible

# Pixels of the page: a card over its whole width, half of it, and on a phone. A figure has 72 points an inch and so has
# SVG, so that letters are as large as they say.
WHOLE, HALF, NARROW = 1104, 516, 324
_UNIT = 72.0

# Nobody listens to more.
_LONGEST = 1500

# What draws: a figure, and whether it is the narrow one.
Draw: TypeAlias = Callable[[Canvas, bool], None]

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "pgvmig",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": drawn("line"),
    "axes.labelcolor": drawn("muted"),
    "axes.labelsize": 12,
    "axes.titlesize": 13,
    "axes.titlelocation": "left",
    "axes.titlecolor": drawn("ink"),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": drawn("grid"),
    "grid.linewidth": 1,
    "text.color": drawn("ink"),
    "xtick.color": drawn("line"),
    "ytick.color": drawn("line"),
    "xtick.labelcolor": drawn("muted"),
    "ytick.labelcolor": drawn("muted"),
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "legend.frameon": False,
    "legend.fontsize": 12,
    "lines.linewidth": 2,
    "lines.solid_capstyle": "round",
    "hatch.linewidth": 1.0,
}


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot in both widths. `alt` says in words what is to be seen in it."""

    name: str
    title: str
    alt: str
    wide: Markup
    narrow: Markup


def plot(
    name: str, title: str, alt: str, draw: Draw, *, height: int, narrow_height: int | None = None, width: int = HALF
) -> Plot:
    """Draw it in both widths. `name` is unique on the page."""
    return Plot(
        name,
        title,
        alt,
        _svg(f"{name}-w", title, alt, draw, (width, height), narrow=False),
        _svg(f"{name}-n", title, alt, draw, (NARROW, narrow_height or height), narrow=True),
    )


def _svg(name: str, title: str, alt: str, draw: Draw, size: tuple[int, int], *, narrow: bool) -> Markup:
    width, height = size
    with mpl.rc_context(_STYLE), _quiet():
        figure = Canvas(figsize=(width / _UNIT, height / _UNIT), layout="constrained")
        draw(figure, narrow)
        stream = io.StringIO()
        FigureCanvasSVG(figure).print_svg(  # type: ignore[no-untyped-call]
            stream, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    return Markup(_inline(stream.getvalue(), name, title, alt))  # noqa: S704  # matplotlib escapes the texts in it


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings about letters that the measuring font has not: the reader's browser has them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*missing from font.*")
        warnings.filterwarnings("ignore", message=".*constrained_layout not applied.*")
        yield


_HEAD = re.compile(r"\A.*?(<svg\b[^>]*>)", re.DOTALL)
_VIEW = re.compile(r'viewBox="([^"]+)"')
_METADATA = re.compile(r"\s*<metadata>.*?</metadata>", re.DOTALL)
_ID = re.compile(r'\bid="([^"]+)"')
_USED = re.compile(r"#([\w.-]+)")
_COORDINATES = re.compile(r'\b(?:d|x|y|transform)="[^"]+"')
_DECIMALS = re.compile(r"(\d+\.\d\d)\d+")


def _inline(svg: str, name: str, title: str, alt: str) -> str:
    """Return the drawing for use inside HTML: named for who listens, its ids its own, its size the page's business."""
    body = "\n".join(map(visible, _METADATA.sub("", _HEAD.sub("", svg, count=1)).split("\n")))
    (view,) = _VIEW.findall(svg[: svg.index("<defs") if "<defs" in svg else None])[:1]
    used = set(_USED.findall(body))
    body = _ID.sub(lambda match: f'id="{name}-{match[1]}"' if match[1] in used else "", body)
    body = re.sub(r"(url\(|href=\")#", rf"\1#{name}-", body)
    head = (
        f'<svg class="plot" viewBox="{view}" role="img" aria-labelledby="{name}-t {name}-d" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink">'
        f'<title id="{name}-t">{_escaped(title)}</title><desc id="{name}-d">{_escaped(alt)}</desc>'
    )
    return variables(head + _COORDINATES.sub(lambda match: _DECIMALS.sub(r"\1", match[0]), body))


def _escaped(text: str) -> str:
    return str(Markup.escape(line(text, _LONGEST)))


def place(at: datetime) -> float:
    """Return where a time stands on a time axis."""
    return float(date2num(at))  # type: ignore[no-untyped-call]


def time_axis(axes: Axes, began: datetime, ended: datetime, *, narrow: bool) -> None:
    """Put the time of the page, UTC, under the plot."""
    locator = AutoDateLocator(minticks=2, maxticks=4 if narrow else 7)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=True))  # type: ignore[no-untyped-call]
    # one moment alone has no width
    axes.set_xlim(place(began), place(ended if ended > began else began + timedelta(seconds=1)))
    axes.set_xlabel("time (UTC)")
