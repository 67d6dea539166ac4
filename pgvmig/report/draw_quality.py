"""Plots of how good and how fast: old against new, per group, over all evaluations, and in production."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from pgvmig.report.evaluations import Evaluation, Figure, Times
from pgvmig.report.facts import ProductionMetric, Trigger
from pgvmig.report.palette import drawn
from pgvmig.report.plots import WHOLE, Plot, place, plot, time_axis
from pgvmig.report.safe import line
from pgvmig.report.words import number, score, signed

_LABEL = 24
# More groups than fit on a screen are in the table only.
GROUPS = 24
# `--every` may have made hundreds.
EVALUATIONS = 100
# Times further apart than that leave no room for labels between the powers of ten.
_DECADES = 80
_SIDES = {"old": ("old", "o"), "new": ("new", "D")}


def quality(evaluation: Evaluation) -> Plot | None:
    """Draw every measure of both versions, and the new one's lead with its interval."""
    figures = [f for f in evaluation.figures if f.old is not None or f.new is not None]
    if not figures:
        return None
    alt = "; ".join(_said(figure) for figure in figures)
    rows = len(figures)

    def draw(figure: Canvas, narrow: bool) -> None:
        left, right = figure.subplots(2, 1) if narrow else figure.subplots(1, 2, sharey=True)
        labels = [line(f.name, _LABEL) for f in figures]
        for i, side in enumerate(_SIDES):
            _dots(left, [getattr(f, side) for f in figures], side, _version(evaluation, side), above=i == 0)
        for i, f in enumerate(figures):
            if f.old is not None and f.new is not None:
                left.plot([f.old, f.new], [i, i], color=drawn("muted"), linewidth=1, zorder=1)
        left.set_xlabel("mean over the queries")
        figure.legend(loc="outside upper left", ncols=2, handletextpad=0.2, borderaxespad=0)
        _leads(right, figures, evaluation)
        right.set_xlabel(f"lead of {evaluation.new}, 95 % interval")
        for axes in (left, right):
            _rows(axes, labels)

    return plot("quality", "Quality, old against new", alt, draw, height=120 + 44 * rows, narrow_height=210 + 88 * rows)


def groups(evaluation: Evaluation) -> Plot | None:
    """Draw the lead of the new version in every group of queries."""
    shown = [(g, g.figures[0]) for g in evaluation.groups if g.figures and g.figures[0].difference is not None][:GROUPS]
    if not shown:
        return None
    name = line(shown[0][1].name, _LABEL)
    alt = "; ".join(f"{line(g.name)}: {signed(f.difference)}" for g, f in shown)

    def draw(figure: Canvas, narrow: bool) -> None:
        axes = figure.subplots()
        _leads(axes, [f for _, f in shown], evaluation)
        _rows(axes, [_group_label(g.name, g.queries, narrow=narrow) for g, _ in shown])
        axes.set_xlabel(f"lead in {name}" if narrow else f"lead of {evaluation.new} in {name}, 95 % interval")

    return plot("groups", f"Lead in {name} by group of queries", alt, draw, height=84 + 34 * len(shown))


def over_time(evaluations: Sequence[Evaluation]) -> Plot | None:
    """Draw the main measure of every evaluation that was kept, both versions joined."""
    kept = [e for e in evaluations if e.main is not None and e.main.new is not None][-EVALUATIONS:]
    if len(kept) < 2:  # noqa: PLR2004
        return None
    name = line(kept[-1].main.name if kept[-1].main else "", _LABEL)
    several = len({e.judged_set.hash for e in kept}) > 1
    alt = "; ".join(f"{e.at:%Y-%m-%d %H:%M} {e.old or ''} {_score(e, 'old')} {e.new} {_score(e, 'new')}" for e in kept)

    def draw(figure: Canvas, narrow: bool) -> None:
        axes = figure.subplots()
        for i, e in enumerate(kept):
            main = e.main
            if main is not None and main.old is not None and main.new is not None:
                axes.plot([i, i], [main.old, main.new], color=drawn("muted"), linewidth=1, zorder=1)
            if main is not None and main.low is not None and main.high is not None and main.old is not None:
                axes.vlines(i, main.old + main.low, main.old + main.high, color=drawn("new"), alpha=0.25, linewidth=8)
        for side, (colour, marker) in _SIDES.items():
            _history(axes, kept, side, drawn(colour), marker)
        axes.set_xticks(range(len(kept)), [_tick(e, named=several, narrow=narrow) for e in kept])
        axes.xaxis.set_tick_params(length=0)
        axes.set_xlim(-0.6, len(kept) - 0.4)
        axes.margins(y=0.2)
        axes.set_ylabel(name)
        axes.grid(visible=False, axis="x")
        figure.legend(loc="outside upper left", ncols=2, handletextpad=0.2, borderaxespad=0)
        _thin(axes, 4 if narrow else 8)

    return plot("history", f"{name} over all evaluations", alt, draw, height=320, narrow_height=300, width=WHOLE)


def latency(evaluation: Evaluation) -> Plot | None:
    """Draw what share of the calls was answered within which time, or the percentiles where only they were kept."""
    stages = list(dict.fromkeys(t.stage for t in evaluation.times))
    if not stages:
        return None
    alt = "; ".join(
        f"{t.stage} {_version(evaluation, t.side)}: p50 {t.p50:.1f}, p95 {t.p95:.1f}, p99 {t.p99:.1f} ms"
        for t in evaluation.times
    )

    def draw(figure: Canvas, narrow: bool) -> None:
        panels = figure.subplots(*((len(stages), 1) if narrow else (1, len(stages))), squeeze=False).flat
        for axes, stage in zip(panels, stages, strict=True):
            _distribution(axes, [t for t in evaluation.times if t.stage == stage], evaluation)
            axes.set_title(stage)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=2, borderaxespad=0)

    return plot("latency", "Latency, old against new", alt, draw, height=290, narrow_height=110 + 210 * len(stages))


def production(
    name: str,
    metric: str,
    series: Sequence[ProductionMetric],
    triggers: Sequence[Trigger],
    colours: Mapping[str, str],
) -> Plot | None:
    """Draw what services reported of a metric, a line for each version in its colour."""
    drawable = [s for s in series if s.points]
    if not drawable:
        return None
    alt = "; ".join(f"{s.version}: {number(s.values)} values, mean {number(s.mean, 3)}" for s in drawable)
    began, ended = min(s.first for s in drawable), max(s.last for s in drawable)

    def draw(figure: Canvas, narrow: bool) -> None:
        axes = figure.subplots()
        for i, s in enumerate(drawable):
            times = [place(at) for at, _ in s.points]
            colour = drawn(colours[s.version])
            marker = "oDs^"[i % 4]
            axes.plot(
                times, [v for _, v in s.points], marker, linestyle="-", color=colour, label=s.version, markersize=4
            )
        for trigger in triggers:
            if not trigger.relative:
                axes.axhline(trigger.bound, color=drawn("fail"), linestyle=(0, (5, 3)), linewidth=1.5)
        axes.margins(y=0.15)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
        axes.grid(visible=False, axis="x")
        axes.set_ylabel(line(metric, 32))
        figure.legend(loc="outside upper left", ncols=4, borderaxespad=0)
        time_axis(axes, began, ended, narrow=narrow)

    return plot(name, f"{line(metric)} in production", alt, draw, height=250)


def _history(axes: Axes, kept: Sequence[Evaluation], side: str, colour: str, marker: str) -> None:
    for pilot in (False, True):
        points = [
            (i, value) for i, e in enumerate(kept) if e.pilot is pilot and (value := getattr(e.main, side)) is not None
        ]
        label = None if pilot and not all(e.pilot for e in kept) else f"{side} version"
        if points:
            inside = drawn("card") if pilot else colour
            axes.plot(
                *zip(*points, strict=True),
                marker,
                color=colour,
                label=label,
                markerfacecolor=inside,
                markeredgewidth=1.5,
            )


def _dots(axes: Axes, values: Sequence[float | None], side: str, label: str, *, above: bool) -> None:
    colour, marker = _SIDES[side]
    points = [(value, i) for i, value in enumerate(values) if value is not None]
    if not points:
        return
    axes.plot(*zip(*points, strict=True), marker, color=drawn(colour), markersize=9, label=label)
    for value, i in points:
        axes.annotate(
            score(value),
            (value, i),
            xytext=(0, 9 if above else -9),
            textcoords="offset points",
            ha="center",
            va="bottom" if above else "top",
            color=drawn(colour),
            fontsize=11,
        )
    axes.margins(x=0.18)


def _leads(axes: Axes, figures: Sequence[Figure], evaluation: Evaluation) -> None:
    """Draw the lead of each figure; a dashed red line where a limit stands."""
    axes.axvline(0, color=drawn("muted"), linewidth=1.2, zorder=1)
    limits = evaluation.thresholds.get("max_drop") or {}
    for i, f in enumerate(figures):
        if f.difference is None:
            continue
        if f.name in limits:
            axes.vlines(-limits[f.name], i - 0.4, i + 0.4, color=drawn("fail"), linewidth=1.5, linestyle=(0, (3, 2)))
        if f.low is not None and f.high is not None:
            axes.plot([f.low, f.high], [i, i], color=drawn("new"), linewidth=5, alpha=0.35)
        axes.plot([f.difference], [i], "D", color=drawn("new"), markersize=8)
        axes.annotate(
            signed(f.difference), (f.difference, i), xytext=(0, 9), textcoords="offset points", ha="center", fontsize=11
        )
    axes.margins(x=0.15)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))


def _rows(axes: Axes, labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, labelcolor=drawn("ink"), labelsize=12)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)


def _distribution(axes: Axes, times: Sequence[Times], evaluation: Evaluation) -> None:
    for t in times:
        colour, marker = _SIDES[t.side]
        if t.samples:
            axes.ecdf(sorted(t.samples), color=drawn(colour), label=_version(evaluation, t.side))
        label = None if t.samples else _version(evaluation, t.side)
        points = (t.p50, t.p95, t.p99)
        axes.plot(points, (0.5, 0.95, 0.99), marker, color=drawn(colour), label=label, markersize=7)
    axes.set_xscale("log")
    slowest, fastest = (pick(v for t in times for v in (t.p50, t.p99, *t.samples)) for pick in (max, min))
    subs = (1, 2, 5) if slowest < _DECADES * fastest else (1,)
    axes.xaxis.set_major_locator(LogLocator(subs=subs, numticks=20))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: number(value))
    axes.set_yticks((0, 0.5, 0.95), ("0 %", "50 %", "95 %"))
    axes.set_ylim(0, 1.03)
    axes.set_xlabel("milliseconds")
    axes.set_ylabel("answered within")


def _thin(axes: Axes, most: int) -> None:
    """Leave every nth label where there are more than fit."""
    labels = axes.get_xticklabels()
    step = -(-len(labels) // most)
    for i, label in enumerate(labels):
        label.set_visible(i % step == 0)


def _said(figure: Figure) -> str:
    interval = f" (95 % interval {signed(figure.low)} to {signed(figure.high)})" if figure.low is not None else ""
    return (
        f"{figure.name}: old {score(figure.old)}, new {score(figure.new)}, lead {signed(figure.difference)}{interval}"
    )


def _score(evaluation: Evaluation, side: str) -> str:
    return score(getattr(evaluation.main, side)) if evaluation.main else ""


def _tick(evaluation: Evaluation, *, named: bool, narrow: bool) -> str:
    """Return what stands below an evaluation; the judged set where there are several, whose figures do not compare."""
    pair = f"{evaluation.old}→{evaluation.new}" if evaluation.old else evaluation.new
    pilot = " pilot" if evaluation.pilot else ""
    if narrow:
        return f"{pair}{pilot}\n{evaluation.at:%b %d}"
    judged_set = f"\n{line(evaluation.judged_set.name, 18)}" if named else ""
    return f"{pair}{pilot}\n{evaluation.at:%Y-%m-%d}\n{evaluation.verdict or 'no verdict'}{judged_set}"


def _version(evaluation: Evaluation, side: str) -> str:
    return (evaluation.old or "old") if side == "old" else evaluation.new


def _group_label(name: str, queries: int | None, *, narrow: bool) -> str:
    cut = line(name, 14 if narrow else _LABEL)
    return cut if queries is None else f"{cut} ({queries})"
