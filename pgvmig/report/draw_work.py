"""Plots of the work: the versions' states over time, and the speed and lag of backfills."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from pgvmig.report.facts import Backfill, Event, Span
from pgvmig.report.palette import drawn
from pgvmig.report.plots import WHOLE, Plot, place, plot, time_axis
from pgvmig.report.progress import merged
from pgvmig.report.words import duration, number

# A state that lasted a second of a year is still seen.
_NARROWEST = 0.004
# Below this share of the width a bar's label does not fit into it.
_LABELLED = 0.13
# Stops nearer than this share of the whole are one shade.
_STOPS = 300
_SWITCHES = {"cut over": "▲", "roll back": "▼"}


def timeline(spans: Sequence[Span], events: Sequence[Event]) -> Plot | None:
    """Draw which version was in which state when."""
    if not spans:
        return None
    names = list(dict.fromkeys(span.version for span in spans))
    switches = [event for event in events if event.to_state == "active"]
    alt = "; ".join(
        f"{name}: " + ", ".join(f"{s.state} for {duration(s.ended - s.began)}" for s in spans if s.version == name)
        for name in names
    )
    height = 96 + 46 * len(names)

    def draw(figure: Canvas, narrow: bool) -> None:
        axes = figure.subplots()
        _lanes(axes, spans, names, narrow=narrow)
        for event in switches:
            axes.axvline(place(event.at), color=drawn("muted"), linewidth=1, linestyle=(0, (3, 3)), zorder=1)
            axes.text(
                place(event.at),
                len(names) - 0.36,
                _SWITCHES.get(event.verb, "▲"),
                color=drawn("ink"),
                fontsize=9,
                ha="center",
                va="bottom",
            )

    return plot(
        "timeline",
        "States of the versions over time",
        f"{alt}. The table below lists every step.",
        draw,
        height=height,
        width=WHOLE,
    )


def _lanes(axes: Axes, spans: Sequence[Span], names: list[str], *, narrow: bool) -> None:
    began, ended = min(s.began for s in spans), max(s.ended for s in spans)
    ended = max(ended, began + timedelta(seconds=1))
    whole = place(ended) - place(began)
    for span in spans:
        lane = len(names) - 1 - names.index(span.version)
        width = max(place(span.ended) - place(span.began), whole * _NARROWEST)
        axes.barh(lane, width, left=place(span.began), height=0.62, color=drawn(f"state-{span.state}"), zorder=2)
        if width / whole > _LABELLED * (1.9 if narrow else 1):
            middle = place(span.began) + width / 2
            axes.text(
                middle, lane, span.state, color=drawn("on-state"), ha="center", va="center", fontsize=11, zorder=3
            )
    axes.set_yticks(range(len(names)), list(reversed(names)))
    axes.tick_params(axis="y", labelsize=13, labelcolor=drawn("ink"), length=0)
    axes.set_ylim(-0.5, len(names) - 0.1)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    time_axis(axes, began, ended, narrow=narrow)


def backfill(facts: Backfill) -> Plot | None:
    """Draw the speed and the lag of a version's backfill, what stopped it shaded."""
    if len(facts.moments) < 2:  # noqa: PLR2004
        return None
    with_lag = any(moment.lag is not None for moment in facts.moments)
    fastest = max(moment.rows_per_second for moment in facts.moments)
    alt = (
        f"{facts.version}: {number(facts.rows_written)} rows in {duration(facts.ended - facts.began)}, "
        f"{number(fastest)} rows a second at most"
        + (f", lag {duration(facts.peak_lag)} at most" if facts.peak_lag is not None else ", no lag read")
        + f", {number(len(facts.stops))} stops"
    )

    def draw(figure: Canvas, narrow: bool) -> None:
        if with_lag:
            speed, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
            _lag(below, facts)
        else:
            speed = below = figure.subplots()
        _speed(speed, facts)
        for axes in (speed, below):
            _shade(axes, facts)
        time_axis(below, facts.began, facts.ended, narrow=narrow)

    return plot(f"backfill-{facts.version}", f"Backfill of {facts.version}", alt, draw, height=340 if with_lag else 230)


def _speed(axes: Axes, facts: Backfill) -> None:
    values = [moment.rows_per_second for moment in facts.moments]
    began, ended = place(facts.began), place(facts.ended)
    edges = [began + (ended - began) * i / len(values) for i in range(len(values) + 1)]
    axes.stairs(values, edges, fill=True, color=drawn("third"), alpha=0.16, linewidth=0)
    axes.stairs(values, edges, color=drawn("third"), linewidth=2, baseline=None)
    axes.set_ylabel("rows/s")


def _lag(axes: Axes, facts: Backfill) -> None:
    read = [(place(moment.at), moment.lag) for moment in facts.moments if moment.lag is not None]
    unit, factor = ("s", 1) if max(lag for _, lag in read) >= 1 else ("ms", 1000)
    times, heights = [at for at, _ in read], [lag * factor for _, lag in read]
    axes.fill_between(times, heights, color=drawn("fourth"), alpha=0.16, linewidth=0)
    axes.plot(times, heights, "o-", color=drawn("fourth"), markersize=3)
    axes.set_ylabel(f"lag ({unit})")


def _shade(axes: Axes, facts: Backfill) -> None:
    for began, ended in merged(facts.stops, (facts.ended - facts.began) / _STOPS):
        axes.axvspan(place(began), place(ended), color=drawn("stop"), linewidth=0, zorder=0)
    axes.set_ylim(bottom=0)
    axes.grid(visible=False, axis="x")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, min_n_ticks=2))
    axes.yaxis.set_major_formatter(lambda value, _: number(value))
