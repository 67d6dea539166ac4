"""The part of `pgvmig status` that is about a switch: who serves the keys, what was proved, what production says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from operator import itemgetter
from typing import Any

from pgvmig.cli import output
from pgvmig.cli.progress import span
from pgvmig.cli.route import described
from pgvmig.routing import Route

Row = dict[str, Any]


def show(found: Row) -> None:
    """Print it; nothing about targets of which there is nothing to say."""
    for route in found["routes"]:
        if route["candidate"] is not None or route["served"]:
            names = ("target", "active", "candidate", "percent", "keys", "changed_at")
            for line in described(Route(**{name: route[name] for name in names}), route["served"]):
                output.say(line)
    for version in found["versions"]:
        for line in _proved(version):
            output.say(line)
    rows = [_metric(version, metric) for version in found["versions"] for metric in version["metrics"]]
    if rows:
        columns = ("metric", "version", "values", "mean", "p95")
        output.table("Production, last hour", columns, sorted(rows, key=itemgetter(0)))


def _proved(version: Row) -> Iterator[str]:
    name = f"{version['target']} {version['version']}"
    verify, evaluation = version["verify"], version["evaluation"]
    if verify is not None:
        yield f"{name} verify: {', '.join(_verdicts(verify))}, {_ago(verify['age'])}"
    if evaluation is None:
        return
    if evaluation["verdict"] is None and evaluation["evaluated_at"] is None:
        yield f"{name} evaluation: required, and there is none yet"
    else:
        verdict = evaluation["verdict"] or "no verdict (nobody judged)"
        pilot = ", a pilot" if evaluation["pilot"] else ""
        against = f" against {evaluation['against']}" if evaluation["against"] else ""
        yield f"{name} evaluation: {verdict}{against}{pilot}, {_ago(evaluation['age'])}"


def _verdicts(verify: Row) -> Iterator[str]:
    if verify["passed"]:
        yield f"{len(verify['passed'])} passed"
    for word, gates in (
        ("failed", [each["gate"] for each in verify["failed"]]),
        ("outdated", [each["gate"] for each in verify["outdated"]]),
        ("not looked at", verify["missing"]),
    ):
        if gates:
            yield f"{word}: {' '.join(gates)}"


def _metric(version: Row, metric: Row) -> tuple[Any, ...]:
    name = f"{version['target']} {version['version']}"
    return metric["metric"], name, metric["values"], f"{metric['mean']:.4g}", f"{metric['p95']:.4g}"


def _ago(age: timedelta) -> str:
    return f"{span(age.total_seconds())} ago"
