"""A query of the operator's own: one row, one boolean."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from pgvmig.catalog.session import restore_path
from pgvmig.errors import PgvmigError
from pgvmig.pacing.definition import Look, Signal, unset
from pgvmig.pacing.limits import Limits
from pgvmig.pacing.signals import Reading, ok, stop, unknown
from pgvmig.pacing.snapshot import Rows

NAME = "custom SQL"

_FIX = "correct custom_sql, or what it asks for; it runs as the worker's role, read-only, within two seconds"


def _ask(connection: psycopg.Connection[Any], limits: Limits) -> Rows:
    connection.execute("SET TRANSACTION READ ONLY")
    restore_path(connection)
    with connection.cursor(row_factory=tuple_row, binary=True) as cursor:
        # Binary: the extended protocol takes one statement only, so that none can end the read-only transaction.
        cursor.execute(sql.SQL(limits.custom_sql or ""))
        rows = cursor.fetchmany(2) if cursor.description else []
        columns = len(cursor.description or ())
    value = rows[0][0] if len(rows) == 1 and columns == 1 else None
    return [{"rows": len(rows), "columns": columns, "value": value}]


def _judge(look: Look) -> tuple[Reading, ...]:
    (row,) = look.rows
    if (row["rows"], row["columns"]) != (1, 1):
        count = {0: "no row", 1: "one row"}.get(row["rows"], "several rows")
        return (stop(NAME, f"custom_sql returned {count} of {row['columns']} columns, not one boolean", _FIX),)
    if row["value"] is None:
        return (unknown(NAME, "custom_sql returned NULL", _FIX),)
    if row["value"] is True:
        return (ok(NAME, "custom_sql returned true"),)
    if row["value"] is False:
        return (stop(NAME, "custom_sql returned false"),)
    return (stop(NAME, f"custom_sql returned a {type(row['value']).__name__}, not a boolean", _FIX),)


def _judge_error(error: PgvmigError) -> Reading:
    return stop(NAME, f"custom_sql failed: {error.found}", _FIX)


SIGNAL = Signal(
    name=NAME,
    meaning="the query `custom_sql` returns true; false and an error stop, NULL is unknown",
    incident="only you know what else must be well, such as the length of the application's own queue",
    judge=_judge,
    limits=("custom_sql",),
    default="off",
    off=unset("custom_sql"),
    ask=_ask,
    every=1.0,
    judge_error=_judge_error,
)
