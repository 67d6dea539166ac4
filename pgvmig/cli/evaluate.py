"""`pgvmig evaluate`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from pgvmig.catalog import versions
from pgvmig.cli import output, verdicts
from pgvmig.errors import TooEarlyError, UsageError
from pgvmig.evaluation import store, verdict
from pgvmig.evaluation.verdict import Thresholds

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


class _Bound(click.ParamType[tuple[str, float]]):
    """`0.01`, or `recall@10=0.02` for another metric than nDCG@10."""

    name = "bound"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        """Read the text."""
        name, equals, number = str(value).rpartition("=")
        try:
            known = verdict.metric(name) if equals else verdict.NDCG
            bound = float(number)
        except UsageError as error:
            self.fail(f"{error.found}; {error.next_step}", param, ctx)
        except ValueError:
            self.fail(f"{number!r} is not a number; write 0.01, or recall@10=0.01", param, ctx)
        if not 0 <= bound <= 1:
            self.fail(f"{bound:g} is not between 0 and 1, where all metrics are", param, ctx)
        return known, bound


_BOUND = _Bound()


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options, in groups: what is asked, what must be shown, what is kept with it, how it is run."""
    for option in reversed((*_ASKED, *_SHOWN, *_KEPT, *_RUN)):
        command = option(command)
    return command


_ASKED = (
    click.option("--queries", type=_FILE, help='JSON lines: {"id", "text"}, perhaps "group", "sql", "parameters".'),
    click.option("--qrels", type=_FILE, help="Judgements: query, row and grade in columns, as BEIR or TREC have them."),
    click.option(
        "--sql", type=_FILE, help="How your application searches: SQL over {view}, with %(query)s and %(text)s."
    ),
    click.option("--doc-column", metavar="COLUMN", help="The column that holds the judged ids. [default: the key]"),
)
_SHOWN = (
    click.option(
        "--max-drop",
        type=_BOUND,
        multiple=True,
        metavar="[METRIC=]X",
        help=f"How much a metric may fall. [default: what is required of NEW, else {verdict.NDCG}={verdict.MAX_DROP}]",
    ),
    click.option("--min", type=_BOUND, multiple=True, metavar="[METRIC=]X", help="What a metric must reach."),
    click.option(
        "--max-p95-ratio",
        type=click.FloatRange(min=0, min_open=True),
        metavar="X",
        help="How many times as long NEW's search may take as OLD's, at the 95th percentile.",
    ),
    click.option("--require", is_flag=True, help="Keep these thresholds with NEW: its cutover needs a GO by them."),
    click.option("--not-required", is_flag=True, help="Let the cutover to NEW need no evaluation any more."),
    click.option("--reason", help="Why; kept with the event of --require or --not-required."),
)
_KEPT = (
    click.option("--name", help="What the judged set is called. [default: the file's name]"),
    click.option("--owner", help="Who answers for the judgements. [default: the database role]"),
    click.option(
        "--judged-on",
        type=click.DateTime(["%Y-%m-%d"]),
        metavar="DATE",
        help="When they were made, such as 2026-10-01. [default: the file's date]",
    ),
)
_RUN = (
    click.option(
        "--rounds", type=click.IntRange(1, 100), default=1, show_default=True, help="Searches for each query, to time."
    ),
    click.option(
        "--timeout", type=output.DURATION, default="30s", show_default=True, help="How long a search may take."
    ),
    click.option("--every", type=output.DURATION, help="Evaluate so often, until the backfill is complete."),
    click.option("--max-time", type=output.DURATION, help="With --every: begin no other evaluation after this long."),
    click.option("--history", is_flag=True, help="List every evaluation of TARGET."),
)


@click.command("evaluate")
@click.argument("target")
@click.argument("old", required=False)
@click.argument("new", required=False)
@_options
@output.options
def command(
    target: str,
    old: str | None,
    new: str | None,
    history: bool,
    require: bool,
    not_required: bool,
    reason: str | None,
    every: timedelta | None,
    max_time: timedelta | None,
    dsn: str | None,
    as_json: bool,
    **given: Any,
) -> int:
    """Compare the versions OLD and NEW of TARGET on judged queries, and say whether NEW is good enough.

    Every query is embedded and searched with both versions, turn about, through their own views, indexes and search
    settings: nDCG@10, recall@10, MRR@10, their differences with 95 % intervals (paired bootstrap), queries won and
    lost, latency. GO when the whole interval keeps every threshold, NO-GO when one is broken by its whole interval,
    else INCONCLUSIVE, with about how many queries it takes. Without --qrels it says how alike both are, and gives no
    verdict. While the backfill is not complete it is a pilot, on the judged rows that have both vectors. Every
    evaluation is kept. See docs/evaluation.md.

    Exit codes: 0 GO (or nothing judged), 4 NO-GO, 5 INCONCLUSIVE; with --every the last one's.

    \b
    JSON: {"evaluation_id", "evaluated_at", "target", "old", "new", "verdict": "GO", "reason", "pilot": false,
           "thresholds": {"max_drop": {"nDCG@10": 0.01}}, "judged_set": {"name", "owner", "judged_on", "old"},
           "figures": {"metrics": {"nDCG@10": {"old", "new", "difference", "low", "high", ...}}, "groups",
           "latency", "agreement", "limits", ...}, "queries": [{"id", "old": {"found", ...}, "new": {...}}], ...}
    With --every a line for each, or {"too_early": "..."}. With --history: {"evaluations": [...]}, without queries.
    With --require or --not-required alone: {"changed": true, "thresholds": {...}}
    """
    thresholds = Thresholds(
        max_drop=dict(given["max_drop"]), min=dict(given["min"]), max_p95_ratio=given["max_p95_ratio"]
    )
    if require and not_required:
        raise UsageError("--require and --not-required contradict each other", next_step="give one of them")
    with output.connect(dsn) as conn:
        if history:
            verdicts.show_history(store.history(conn, versions.select(conn, target)[0]), target, as_json=as_json)
            return 0
        if old is None or new is None:
            raise UsageError("it takes two versions", next_step=f"pgvmig evaluate {target} OLD NEW --queries FILE")
        if require or not_required:
            wanted = None if not_required else thresholds or verdict.DEFAULT
            alone = given["queries"] is None
            changed = store.require(conn, versions.find(conn, target, new), wanted, reason)
            verdicts.show_required(f"{target} {new}", wanted, changed=changed, as_json=as_json, alone=alone)
            if alone:
                return 0
    compared = (target, old, new)
    return _evaluate(dsn, compared, thresholds or None, given, every, max_time, as_json=as_json)


def _evaluate(
    dsn: str | None,
    compared: tuple[str, str, str],
    thresholds: Thresholds | None,
    given: dict[str, Any],
    every: timedelta | None,
    max_time: timedelta | None,
    *,
    as_json: bool,
) -> int:
    if given["queries"] is None:
        raise UsageError("no queries are given", next_step="--queries FILE, and --qrels FILE for a verdict")
    with output.needs("evaluate"):
        from pgvmig.evaluation import comparing, repeating
    request = _request(compared, thresholds, given)

    def evaluate() -> comparing.Evaluation:
        # A connection each time: between two evaluations there may be hours, and a failover.
        with output.connect(dsn) as conn, verdicts.progress(shown=not as_json) as report:
            return comparing.evaluate(conn, request, report=report)

    if every is None:
        return verdicts.show(evaluate(), as_json=as_json)
    code = 0
    until = None if max_time is None else max_time.total_seconds()
    for outcome in repeating.repeat(evaluate, every.total_seconds(), until):
        if isinstance(outcome, TooEarlyError):
            code = verdicts.show_too_early(outcome, as_json=as_json)
        else:
            code = verdicts.show(outcome, advice=repeating.advice(outcome), as_json=as_json)
    return code


def _request(compared: tuple[str, str, str], thresholds: Thresholds | None, given: dict[str, Any]) -> Any:
    from pgvmig.evaluation import comparing, formats

    queries, qrels, sql, judged_on = (given[name] for name in ("queries", "qrels", "sql", "judged_on"))
    target, old, new = compared
    return comparing.Request(
        target=target,
        old=old,
        new=new,
        judged=formats.read(queries, qrels),
        origin=store.Origin(
            name=given["name"] or queries.stem,
            owner=given["owner"],
            judged_on=judged_on.date() if judged_on else None,
            file_date=_date_of(qrels or queries),
        ),
        thresholds=thresholds,
        sql=sql.read_text(encoding="utf-8") if sql else None,
        doc_column=given["doc_column"],
        rounds=given["rounds"],
        timeout=given["timeout"].total_seconds(),
    )


def _date_of(path: Path) -> date:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).date()
