"""How `pgvmig evaluate` shows evaluations."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pgvmig.cli import output
from pgvmig.errors import TooEarlyError
from pgvmig.evaluation.verdict import EXIT_CODES, METRICS, NDCG, Thresholds

# Groups of queries that are shown, the largest first; --json has them all.
_GROUPS = 12
# Queries that are shown: those that lost most.
_LOSSES = 5
_SHOWN_TEXT = 60

_LEFT_OUT = {
    "queries_not_judged": "queries that are not judged",
    "queries_without_relevant_rows": "judged queries without a relevant row here",
    "judgements_of_unknown_queries": "judgements of queries that are not in the file",
    "judgements_of_missing_rows": "judgements of rows that {missing}",
}


def show(evaluation: Any, *, advice: str | None = None, as_json: bool) -> int:
    """Print an evaluation and return the exit code."""
    if as_json:
        output.print_json(evaluation)
    else:
        _show(evaluation, advice)
    return EXIT_CODES[evaluation.verdict]


def show_too_early(error: TooEarlyError, *, as_json: bool) -> int:
    """Print that there is nothing to compare yet, and return the exit code."""
    if as_json:
        output.print_json({"too_early": error.found})
    else:
        output.say(f"Not yet: {error.found}.")
    return error.exit_code


def show_required(name: str, thresholds: Thresholds | None, *, changed: bool, as_json: bool, alone: bool) -> None:
    """Print what an evaluation must show from now on; `alone`: no evaluation follows."""
    if as_json:
        if alone:
            output.print_json({"changed": changed, "thresholds": thresholds.as_json() if thresholds else None})
    else:
        wanted = "no evaluation" if thresholds is None else f"a GO: {_said(thresholds.as_json())}"
        output.say(f"A cutover to {name} needs {wanted}{'' if changed else ', as before'}.")


def show_history(evaluations: Sequence[Mapping[str, Any]], target: str, *, as_json: bool) -> None:
    """Print every evaluation of a target, the oldest first."""
    if as_json:
        output.print_json({"evaluations": evaluations})
    elif not evaluations:
        output.say(f"No evaluation of {target} yet. Next: pgvmig evaluate {target} OLD NEW --queries FILE --qrels FILE")
    else:
        columns = ("at", "versions", "set", "queries", f"{NDCG} old", "new", "change", "verdict")
        output.table(f"Evaluations of {target}", columns, [_history_row(e) for e in evaluations])


@contextlib.contextmanager
def progress(*, shown: bool) -> Iterator[Callable[[int, int], None]]:
    """Show how many queries have been run."""
    columns = (TextColumn("queries"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, disable=not (shown and sys.stdout.isatty()), transient=True) as bars:
        task = bars.add_task("queries", total=None)

        def report(done: int, total: int) -> None:
            bars.update(task, completed=done, total=total)

        yield report


def _show(evaluation: Any, advice: str | None) -> None:
    figures = evaluation.figures
    name = f"{evaluation.target} {evaluation.old} -> {evaluation.new}"
    output.say(f"{name}: {evaluation.verdict or 'no verdict'}: {evaluation.reason}.")
    for line in _remarks(evaluation):
        output.say(line)
    _show_quality(figures)
    _show_agreement(figures["agreement"], judged=bool(figures["metrics"]))
    _show_latency(figures, pilot=evaluation.pilot)
    _show_losses(evaluation)
    if advice:
        output.say(f"So far {advice}.")
    for line in _next_steps(evaluation):
        output.say(f"Next: {line}")


def _show_quality(figures: Mapping[str, Any]) -> None:
    if not figures["metrics"]:
        return
    columns = ("metric", "old", "new", "difference", "95 % interval", "better", "worse", "same")
    rows = [_quality_row(name, figures["metrics"][name]) for name in METRICS]
    output.table(f"Quality, {figures['judged']:,} judged queries", columns, rows)
    groups = sorted(figures["groups"], key=lambda group: -group["queries"])[:_GROUPS]
    if groups:
        rows = [(group["name"], group["queries"], *_quality_row("", group["metrics"][NDCG])[1:]) for group in groups]
        output.table(f"{NDCG} by group", ("group", "queries", *columns[1:]), rows)
        if len(figures["groups"]) > _GROUPS:
            output.say(f"... and {len(figures['groups']) - _GROUPS:,} more groups; --json has them all")


def _quality_row(name: str, figure: Mapping[str, Any]) -> tuple[Any, ...]:
    interval = f"{figure['low']:+.3f} to {figure['high']:+.3f}"
    scores = (f"{figure['old']:.3f}", f"{figure['new']:.3f}", f"{figure['difference']:+.3f}", interval)
    return (name, *scores, figure["wins"], figure["losses"], figure["ties"])


def _show_agreement(agreement: Mapping[str, float], *, judged: bool) -> None:
    output.say(
        f"Of their first ten answers both have {agreement['overlap@10'] * 100:.0f} % in common; rank correlation "
        f"(Kendall's tau) {agreement['kendall_tau']:+.2f}."
    )
    if not judged:
        output.say("This is NOT a quality verdict: a better model answers differently, and a worse one does, too.")


def _show_latency(figures: Mapping[str, Any], *, pilot: bool) -> None:
    rows = [
        (stage, side, *(_ms(figures["latency"][side][stage][rank]) for rank in ("p50", "p95", "p99")), rate)
        for stage in ("embedding", "search")
        for side in ("old", "new")
        for rate in [f"{figures['latency'][side]['queries_per_second']:,.0f}" if stage == "search" else None]
    ]
    title = "Latency, one client" + (
        " (a pilot searches without the index: not what services wait for)" if pilot else ""
    )
    output.table(title, ("", "version", "p50", "p95", "p99", "queries/s"), rows)


def _show_losses(evaluation: Any) -> None:
    judged = [query for query in evaluation.queries if NDCG in query["old"]]
    lost = sorted(judged, key=_change)[:_LOSSES]
    rows = [(q["id"], f"{q['old'][NDCG]:.3f}", f"{q['new'][NDCG]:.3f}") for q in lost if _change(q) < 0]
    if rows:
        output.table("Queries that lost most", ("query", f"{NDCG} old", "new"), rows)


def _remarks(evaluation: Any) -> Iterator[str]:
    judged_set, figures = evaluation.judged_set, evaluation.figures
    if evaluation.pilot:
        coverage = figures["coverage"]
        yield (
            f"Pilot: {coverage['embedded']:,} of {coverage['total']:,} rows have a vector of {evaluation.new}; both "
            f"versions were searched among the judged rows with both vectors only."
        )
    if figures["judged"] and judged_set.old:
        yield (
            f"Warning: {judged_set.name} was judged on {judged_set.judged_on}, more than 90 days ago; what people ask, "
            f"and what answers it, may have changed. Ask {judged_set.owner}; --judged-on says when it was reviewed."
        )
    missing = "lack a vector in one version, or do not exist" if evaluation.pilot else "do not exist"
    for key, what in _LEFT_OUT.items():
        number = (figures["left_out"] or {}).get(key, 0)
        if number:
            yield f"Left out, {what.format(missing=missing)}: {number:,}."
    lacking = {side: number for side, number in figures["rows_without_vector"].items() if number}
    if lacking and not evaluation.pilot:
        said = " and ".join(f"{number:,} in {getattr(evaluation, side)}" for side, number in lacking.items())
        yield f"Judged rows without a vector, which no search finds: {said}."


def _next_steps(evaluation: Any) -> Iterator[str]:
    if evaluation.verdict == "GO" and not evaluation.pilot:
        yield f"pgvmig verify {evaluation.target} {evaluation.new}, then the cutover"
    elif evaluation.verdict == "NO-GO":
        yield "look at the queries that lost most: --json has what both versions found, pgvmig report shows it"
    elif evaluation.verdict is None:
        yield "judge some answers, and give --qrels for a verdict"


def _history_row(evaluation: Mapping[str, Any]) -> tuple[Any, ...]:
    figure = evaluation["figures"]["metrics"].get(NDCG)
    scores = (f"{figure['old']:.3f}", f"{figure['new']:.3f}", f"{figure['difference']:+.3f}") if figure else (None,) * 3
    return (
        f"{evaluation['evaluated_at']:%Y-%m-%d %H:%M}",
        f"{evaluation['old']} -> {evaluation['new']}",
        evaluation["judged_set"],
        evaluation["figures"]["queries"],
        *scores,
        f"{evaluation['verdict'] or 'none'}{' (pilot)' if evaluation['pilot'] else ''}",
    )


def _said(thresholds: Mapping[str, Any]) -> str:
    parts = [f"{name} falls by {bound:g} at most" for name, bound in thresholds.get("max_drop", {}).items()]
    parts += [f"{name} is {bound:g} or more" for name, bound in thresholds.get("min", {}).items()]
    if "max_p95_ratio" in thresholds:
        parts.append(f"the search takes {thresholds['max_p95_ratio']:g} times as long at most")
    return ", ".join(parts)


def _change(query: Mapping[str, Any]) -> float:
    return float(query["new"][NDCG] - query["old"][NDCG])


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"
