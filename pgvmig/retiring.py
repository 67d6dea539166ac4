"""Retire a version: the proof that nobody reads it, and its removal in steps that can be gone on with after a kill.

The gates and each step are SQL functions (sql/functions/76_unread.sql to 78_retire.sql). This reads the standbys, which
only a client can, and drops the indexes between two transactions. Must not know about Alembic or the command line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Self

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from pgvmig import indexing
from pgvmig import sql as files
from pgvmig.address import Address, Table
from pgvmig.catalog.connection import translate
from pgvmig.checks.gates import GateResult
from pgvmig.errors import NotFoundError, UsageError
from pgvmig.locating import resolved
from pgvmig.pacing.asking import close, in_time, open_standby
from pgvmig.pacing.units import quoted, size
from pgvmig.runner import Row, Runner, decoded, one
from pgvmig.terms import Terms

# So long a version must have been left, and unread, before it is retired: a day has all of a business's hours.
SOAK = timedelta(hours=24)

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d)?")
_SECONDS = {None: 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
_READING = ("indexes", "scans", "last_scan", "calls", "counted_since", "readers", "suspects")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetireTerms:
    """How long a version must have been left and unread, the gates to skip (`soak`, `unused`), and why."""

    soak: timedelta = SOAK
    skip: list[str] = field(default_factory=list)
    reason: str | None = None

    @classmethod
    def of(cls, soak: str | timedelta | None, force: str | None = None) -> Self:
        """Read an operation's `soak="2h"` and `force="gate: why"`. Raises UsageError."""
        forced = Terms.forced(force)
        return cls(soak=span(soak), skip=forced.skip, reason=forced.reason)

    def literals(self) -> dict[str, sql.Literal]:
        """Return the terms as SQL literals."""
        return {"soak": sql.Literal(self.soak), "skip": sql.Literal(self.skip), "reason": sql.Literal(self.reason)}


def span(text: str | timedelta | None) -> timedelta:
    """Return the soak time that was written as 90s, 30m, 24h or 7d; None is the default. Raises UsageError."""
    if text is None or isinstance(text, timedelta):
        return SOAK if text is None else text
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"soak is {text!r}", next_step="write a time span such as 90s, 30m, 24h or 7d")
    return timedelta(seconds=float(match[1]) * _SECONDS[match[2]])


def retire(run: Runner, where: Address, terms: RetireTerms | None = None) -> dict[str, Any]:
    """Retire the version; its contract and events stay. Goes on where an earlier call was stopped.

    Returns what went back to the disk and what did not; `changed` is false when it was retired before. Raises
    GateError, IllegalTransitionError (it is active, or somebody depends on it), LockNotAvailableError: nothing has
    changed then, unless the last one says that it is retired already.
    """
    terms = terms or RetireTerms()
    run.note(
        f"pgvmig: retire {where.label}. Checks that it was left long enough and that nobody reads it, and drops its\n"
        "view and triggers: not to be undone. Then its index, without a lock on the table; then its columns or table."
    )
    if not run.offline and terms.soak > timedelta(0):
        take_readings(run, where)
    with run.transaction():
        begun = _called(run, "begin", **where.literals(), **terms.literals())
    if not run.offline and not begun["changed"]:
        return begun
    indexing.drop_all(run, where)
    with run.transaction():
        return _called(run, "finish", **where.literals())


def space_left(table: Table, outcome: dict[str, Any]) -> str:
    """Return what the dropped columns still take, and what would give it back; `outcome` is that of `retire`."""
    name = ".".join(quoted(part) for part in (table.schema, table.name) if part not in (None, "public"))
    return (
        f"about {size(outcome['held_bytes'])} of dropped columns stay in the rows and the TOAST table of {name}, and "
        "are used again as rows are updated. To give them back to the disk, rewrite the table: "
        f"VACUUM FULL {name} (ACCESS EXCLUSIVE: nobody reads or writes until it is done, its indexes built anew "
        f"included; up to {size(outcome['whole_bytes'])} free disk), or pg_repack -t {name} (locks for moments at its "
        "begin and end; as much free disk, the extension, and a primary key)"
    )


def check(run: Runner, where: Address, soak: timedelta = SOAK) -> list[GateResult]:
    """Read every server, then return what the gates `soak` and `unused` found; none where none are asked.

    Raises IllegalTransitionError for what no soak would mend: it is active, routed to, or depended on.
    """
    where = resolved(run, where)
    run.run(files.query("retire", "require_retirable", **where.literals()))
    take_readings(run, where)
    rows = run.run(files.query("retire", "check_gates", **where.literals(), soak=sql.Literal(soak)))
    return [GateResult(**row | {"measured": decoded(row["measured"])}) for row in rows]


def facts(run: Runner, where: Address) -> Row:
    """Return the version's `state`, whether it is `unfinished`, and `way_back_of`: who would fall back on it."""
    rows = run.run(files.query("retire", "facts", **where.literals()))
    if not rows:
        raise NotFoundError(f"there is no {where.label}", next_step="pgvmig status")
    return rows[0]


def revoke(run: Runner, where: Address, reason: str | None = None) -> dict[str, Any]:
    """Take the right to read the version away from everybody but its owner. Raises IllegalTransitionError."""
    with run.transaction():
        outcome = _called(run, "revoke", **where.literals(), reason=sql.Literal(reason))
    take_readings(run, where)
    return outcome


def restore(run: Runner, where: Address, reason: str | None = None) -> dict[str, Any]:
    """Give it back exactly; `changed` is false when nothing had been taken."""
    with run.transaction():
        return _called(run, "restore", **where.literals(), reason=sql.Literal(reason))


def take_readings(run: Runner, where: Address) -> None:
    """Read how often the indexes of a version that served were scanned, on the primary and on each standby with a DSN.

    Committed at once: what is read today is the baseline of tomorrow's question, whatever comes of today's.
    """
    where = resolved(run, where)
    version = facts(run, where)
    if version["state"] not in ("retained", "ready"):  # a ready one may have served a share of the keys
        return
    with run.outside_transaction():
        version_id = sql.Literal(version["version_id"])
        run.run(files.query("retire", "read_primary", version_id=version_id))
        for standby in run.run(files.query("standbys", "declared")):
            if standby["dsn"] is not None:
                found = _read_standby(standby["dsn"], version["version_id"], version["system_identifier"])
                values = {name: sql.Literal(found.get(name)) for name in (*_READING, "problem")}
                server = sql.Literal(standby["name"])
                run.run(files.query("retire", "record_reading", version_id=version_id, server=server, **values))


def _read_standby(dsn: str, version_id: int, system: int) -> Row:
    """Return the standby's reading, or its `problem`."""
    try:
        connection = open_standby(dsn)
    except psycopg.Error as error:
        return {"problem": f"its DSN does not answer ({translate(error).found})"}
    try:
        with in_time(connection), connection.cursor(row_factory=dict_row) as cursor:
            (found,) = cursor.execute(files.query("retire", "read_standby"), {"version_id": version_id}).fetchall()
    except psycopg.Error as error:
        return {"problem": f"it cannot be read ({translate(error).found})"}
    finally:
        close(connection)
    if found["system_identifier"] != system:
        return {"problem": "its DSN leads to another cluster"}
    if not found["in_recovery"]:
        return {"problem": "its DSN leads to a server that is no standby"}
    return found


def _called(run: Runner, block: str, **parts: sql.Literal) -> dict[str, Any]:
    return decoded(one(run.run(files.query("retire", block, **parts)))) or {}
