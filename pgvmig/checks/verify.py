"""All gates of a switch, with what takes minutes or a provider measured now and stored for the switch to ask for.

The gates' order is the database's (check_gates); what each measures is in its own file beside this one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import psycopg
from psycopg.rows import tuple_row

from pgvmig import sql as files
from pgvmig.catalog.keys import objects_of
from pgvmig.catalog.versions import Version
from pgvmig.checks import gates, hashes, health, identity, recall, visibility
from pgvmig.checks.evidence import Finding, Options, Report, Task, about, record
from pgvmig.checks.gates import GateResult
from pgvmig.checks.walk import walk
from pgvmig.errors import UsageError
from pgvmig.runner import ConnectionRunner
from pgvmig.terms import Terms

Look: TypeAlias = Callable[[Task], Mapping[str, Finding]]


def _read_all(task: Task) -> Mapping[str, Finding]:
    tally = walk(task)
    return {"hashes": hashes.judge(task.version, tally), "health": health.judge(task.version, tally)}


# Which gates are measured together, the cheapest to mend first.
_LOOKS: tuple[tuple[tuple[str, ...], Look], ...] = (
    (("identity",), lambda task: {"identity": identity.look(task)}),
    (("hashes", "health"), _read_all),
    (("visibility",), lambda task: {"visibility": visibility.look(task)}),
    (("recall",), lambda task: {"recall": recall.look(task)}),
)


def verify(
    conn: psycopg.Connection[Any],
    version: Version,
    terms: Terms,
    options: Options,
    *,
    report: Report = lambda _what, _done, _total: None,
    only: Sequence[str] = (),
) -> list[GateResult]:
    """Run the gates, or those named in `only`; none on an empty table that nobody worked on.

    What is measured is stored, gate by gate, before the next is begun. Raises UsageError for a gate that is not there,
    DatabaseError; what was being measured is not stored then.
    """
    task = Task(conn, version, options, report)
    wanted = set(only)
    _check_names(task, wanted)
    findings = _measured(task, wanted) if _has_rows(task) else {}
    report("asking the other gates", 0, 1)
    results = gates.check(ConnectionRunner(conn), version.version_id, terms)
    report("asking the other gates", 1, 1)
    answered = [findings[r.gate].result(r.gate) if r.gate in findings else r for r in results]
    return [result for result in answered if not wanted or result.gate in wanted]


def _measured(task: Task, wanted: set[str]) -> dict[str, Finding]:
    findings: dict[str, Finding] = {}
    for names, look in _LOOKS:
        chosen = [name for name in names if not wanted or name in wanted]
        if chosen:
            before = about(task, chosen)
            found = look(task)
            record(task, before, found)
            findings |= {name: found[name] for name in chosen}
    return findings


def _check_names(task: Task, wanted: set[str]) -> None:
    with task.looking(row_factory=tuple_row) as cursor:
        known = [name for (name,) in cursor.execute(files.query("verify", "gates"))]
    if unknown := sorted(wanted - set(known)):
        raise UsageError(f"there is no gate named {unknown[0]}", next_step=f"use one of {', '.join(known)}")


def _has_rows(task: Task) -> bool:
    parts = objects_of(task.version)
    with task.looking() as cursor:
        return bool((cursor.execute(files.query("verify", "has_rows", **parts), {}).fetchone() or {}).get("exists"))
