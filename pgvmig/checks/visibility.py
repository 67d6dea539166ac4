"""Gate visibility: whoever reads the current view sees the same rows through the version's own, asked as that reader.

Where no row-level security hides rows it is enough that the reader can read it; where it does, the rows are counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import errors as pg
from psycopg import sql
from psycopg.rows import class_row, tuple_row

from pgvmig import sql as files
from pgvmig.catalog.session import restore_path
from pgvmig.checks.evidence import Finding, Task, listed
from pgvmig.errors import NotFoundError
from pgvmig.space import find_space

# Counting takes a while for each; more are as a rule one role for each customer, all under one policy.
_MOST_COUNTED = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Views:
    """What is read now, the table before the first cutover, and what is to take its place; quoted."""

    old: str
    is_view: bool
    new: str
    rows_hidden: bool
    columns: list[str]


@dataclass(slots=True)
class Seen:
    """What the readers said."""

    compared: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    denied: list[str] = field(default_factory=list)
    counts: dict[str, tuple[int, int]] = field(default_factory=dict)
    left_out: int = 0


def look(task: Task) -> Finding:
    """Read as each of the readers."""
    with task.looking(row_factory=class_row(Views)) as cursor:
        cursor.execute(files.query("verify", "views"), {"version_id": task.version.version_id})
        views = cursor.fetchone()
    if views is None or views.new is None:
        raise NotFoundError(f"{task.version.name} has no view", next_step="pgvmig status")
    seen = Seen()
    readers = _readers(task, views)
    if views.rows_hidden:
        seen.left_out = len(readers[_MOST_COUNTED:])
        readers = readers[:_MOST_COUNTED]
    for number, role in enumerate(readers):
        task.report("reading as each reader", number, len(readers))
        _ask(task, views, role, seen)
    task.report("reading as each reader", len(readers), len(readers))
    return _judged(task, views, seen)


def _ask(task: Task, views: Views, role: str, seen: Seen) -> None:
    """Read as the role, all in one snapshot."""
    with task.looking(row_factory=tuple_row) as cursor:
        try:
            with _acting_as(cursor, role):
                cursor.execute(_of(views.old, views.columns))
        except pg.InsufficientPrivilege:
            if not _may_be(cursor, role):
                seen.unknown.append(role)
            return  # cannot read it today either
        try:
            with _acting_as(cursor, role):
                cursor.execute(_of(views.new, views.columns))
        except pg.InsufficientPrivilege as error:
            seen.problems.append(f"{role} reads {views.old} and not {views.new} ({error.diag.message_primary})")
            seen.denied.append(role)
            return
        seen.compared.append(role)
        if views.rows_hidden:
            _count(task, views, role, cursor, seen)


def _count(task: Task, views: Views, role: str, cursor: psycopg.Cursor[Any], seen: Seen) -> None:
    with _acting_as(cursor, role):
        old, new = (_value(cursor, files.query("verify", "visible", view=sql.SQL(v))) for v in (views.old, views.new))
    seen.counts[role] = (old, new)
    if old == new:
        return
    only_old, only_new = cursor.execute(_only_in_one(task, views)).fetchone() or (0, 0)
    if not old - only_old <= new <= old + only_new:
        seen.problems.append(f"{role} sees {old:,} rows through {views.old} and {new:,} through {views.new}")


def _judged(task: Task, views: Views, seen: Seen) -> Finding:
    passed = not seen.problems and not (seen.unknown and views.rows_hidden)
    parts = seen.problems or [_agreed(views, len(seen.compared))]
    if seen.unknown:
        parts = [*parts, f"we may not act as {listed(seen.unknown)}"]
    if seen.left_out:
        parts = [*parts, f"{seen.left_out:,} more roles were not asked"]
    return Finding(
        passed=passed,
        found="; ".join(parts),
        wanted="whoever reads the current view sees the same rows through the new one, but for those not embedded",
        next=None if passed else _next(task, views, seen),
        measured={
            "rows_hidden": views.rows_hidden,
            "roles": seen.compared,
            "unknown": seen.unknown,
            "counts": {role: list(counts) for role, counts in seen.counts.items()},
            "problems": seen.problems,
        },
    )


def _agreed(views: Views, roles: int) -> str:
    if not roles:
        return f"no role but superusers was found to read {views.old}"
    who = f"1 role that reads {views.old}" if roles == 1 else f"each of {roles:,} roles that read {views.old}"
    if views.rows_hidden:
        return f"{who} sees as many rows through {views.new}"
    return f"{who} can read {views.new}; no row-level security hides rows"


def _next(task: Task, views: Views, seen: Seen) -> str:
    if seen.denied:
        roles = sql.SQL(", ").join(map(sql.Identifier, seen.denied)).as_string(None)
        return (
            f"GRANT SELECT ON {views.new} TO {roles}, and on what is behind it: gate parity of pgvmig cutover "
            f"{task.version.name} --check has the statements; then pgvmig verify {task.version.name} --only visibility"
        )
    if seen.problems:
        table = sql.Literal(f"{task.version.table_schema}.{task.version.table_name}").as_string(None)
        slot = "" if task.version.slot == "embedding" else f", slot => '{task.version.slot}'"
        return (
            f"SELECT pgvmig.refresh_views({table}{slot}); compare pg_policies of the table and of its vectors, and the "
            f"views' options; then pgvmig verify {task.version.name} --only visibility"
        )
    return f"run pgvmig verify as a member of {listed(seen.unknown)} or as a superuser"


@contextmanager
def _acting_as(cursor: psycopg.Cursor[Any], role: str) -> Iterator[None]:
    """Be that role in the block; what it does is taken back, the role as well."""
    with cursor.connection.transaction(force_rollback=True):
        cursor.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
        cursor.execute("SET LOCAL row_security = on")
        restore_path(cursor.connection)  # which the policies' functions may rely on, as they can when the role searches
        yield


def _may_be(cursor: psycopg.Cursor[Any], role: str) -> bool:
    try:
        with _acting_as(cursor, role):
            return True
    except pg.InsufficientPrivilege:
        return False


def _readers(task: Task, views: Views) -> list[str]:
    with task.looking(row_factory=tuple_row) as cursor:
        cursor.execute(files.query("verify", "readers"), {"old": views.old})
        return [role for (role,) in cursor]


def _of(view: str, columns: Sequence[str]) -> sql.Composed:
    named = sql.SQL(", ").join(map(sql.Identifier, columns))
    return files.query("verify", "reads", view=sql.SQL(view), columns=named)


def _value(cursor: psycopg.Cursor[Any], query: sql.Composed) -> int:
    (value,) = cursor.execute(query).fetchone() or (0,)
    return int(value)


def _only_in_one(task: Task, views: Views) -> sql.Composed:
    """Return the question; the view calls the key's columns as they were called at first, the table as they are now."""
    version = task.version
    space = find_space(task.conn, version.relation, version.slot, version.version)
    in_views = space.key_columns if space else version.key_columns
    names = [sql.Identifier(f"key_{i}") for i in range(len(in_views))]
    same = sql.SQL(" AND ").join(
        sql.SQL("old.{0} {1} new.{0}").format(name, sql.SQL(operator))
        for name, operator in zip(names, version.key_operators, strict=True)
    )
    return files.query(
        "verify",
        "only_in_one",
        old=sql.SQL(views.old),
        new=sql.SQL(views.new),
        old_keys=_named(in_views if views.is_view else version.key_columns, names),
        new_keys=_named(in_views, names),
        same=same,
    )


def _named(columns: Sequence[str], names: Sequence[sql.Identifier]) -> sql.Composed:
    pairs = zip(map(sql.Identifier, columns), names, strict=True)
    return sql.SQL(", ").join(sql.SQL("{} AS {}").format(column, name) for column, name in pairs)
