"""Before a switch: no standby is behind, and nobody's long transaction on the current view would stall it.

A switch locks the view for milliseconds. On the primary it gives up by itself where it gets no lock; on a standby the
lock is replayed, and whoever reads there holds up all that was written after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from pgvmig import sql as files
from pgvmig.catalog import standbys as catalog
from pgvmig.catalog.connection import translate
from pgvmig.catalog.standbys import Standby
from pgvmig.errors import PgvmigError, SignalError
from pgvmig.pacing import lag
from pgvmig.pacing.asking import close, in_time, open_primary, open_standby
from pgvmig.pacing.calm import settled
from pgvmig.pacing.limits import DEFAULTS, Limits
from pgvmig.pacing.pacer import Pacer
from pgvmig.pacing.signals import Reading, SignalState, Subject, Verdict, ok, stop, unknown
from pgvmig.pacing.standbys import Connection, DatabaseReader
from pgvmig.pacing.units import quoted, session, span
from pgvmig.pacing.watch import throttle
from pgvmig.runner import Row, Runner
from pgvmig.terms import MAX_READER_AGE

# What --skip and force= call it, and what its readings are called.
GATE = "standbys"
READERS = "long readers"

Beside = str | Callable[[], Connection]


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """What a switch will lock: the current view and, when it is made anew, the views over it; and whose they are.

    `view` is its name, None when there is none yet; `relations` and `database` are OIDs.
    """

    relation: int
    slot: str
    view: str | None
    relations: Sequence[int]
    database: int


def check(
    run: Runner, beside: Beside, locked: Locked, limits: Limits = DEFAULTS, max_reader_age: timedelta = MAX_READER_AGE
) -> Verdict:
    """Return what speaks against a switch now. `run` is the connection that will switch, whose own locks do not count.

    `beside` is how to reach the same server once more: lag is read there.
    """
    readings = [*_lag(beside, limits, Subject(relation=locked.relation, slot=locked.slot))]
    if locked.view is not None:
        readings += _on_primary(run, locked, max_reader_age)
        readings += _on_standbys(beside, locked, max_reader_age)
    return Verdict(tuple(readings))


def require(
    run: Runner, beside: Beside, locked: Locked, limits: Limits = DEFAULTS, max_reader_age: timedelta = MAX_READER_AGE
) -> Verdict:
    """Return the verdict when a switch may begin. Raises SignalError."""
    verdict = check(run, beside, locked, limits, max_reader_age)
    if not verdict.may_write:
        raise SignalError(
            f"not a moment to switch: {verdict.reason}",
            hazard="A switch locks the view; on a standby its replay would wait, and so would everything after it",
            next_step=f"{verdict.next_step or 'wait'}; then run this again, or skip the gate {GATE} and say why",
            signals=[reading.signal for reading in verdict.deciding],
            state=str(verdict.state),
        )
    return verdict


def _lag(beside: Beside, limits: Limits, subject: Subject) -> tuple[Reading, ...]:
    signals = (lag.SIGNAL, throttle.SIGNAL)  # with the limits that an operator has changed
    with Pacer(DatabaseReader(beside, time.monotonic, signals), limits, subject=subject, signals=signals) as pacer:
        found = settled(pacer).readings
    # limits that nobody changed are no news
    return tuple(reading for reading in found if reading.signal != throttle.NAME or reading.state != SignalState.OK)


def _on_primary(run: Runner, locked: Locked, max_age: timedelta) -> list[Reading]:
    # Who may not see other sessions learns nothing here, and needs not: the switch gives up when it gets no lock.
    found = [row for row in run.run(_question(locked, max_age)) if row["age"] is not None or row["pid"] is None]
    return [_holds(row, locked, None) for row in found] or [ok(READERS, "no long transaction reads the view")]


def _on_standbys(beside: Beside, locked: Locked, max_age: timedelta) -> Iterator[Reading]:
    for standby in _asked(beside):
        try:
            connection = open_standby(standby.dsn or "")
            try:
                yield from _on_standby(connection, standby.name, locked, max_age)
            finally:
                close(connection)
        except psycopg.Error as error:
            reason = f"who reads {locked.view} on {standby.name} is not known: {translate(error).found}"
            yield unknown(f"{READERS} on {standby.name}", reason, "check its DSN: pgvmig standby list", kind=READERS)


def _asked(beside: Beside) -> list[Standby]:
    """Return the declared standbys that can be asked; the others are known by their lag alone."""
    try:
        connection = beside() if callable(beside) else open_primary(beside)
    except PgvmigError:
        return []  # the lag is UNKNOWN by then
    try:
        return [s for s in catalog.all_standbys(connection) if s.declared and s.dsn is not None]
    finally:
        close(connection)


def _on_standby(connection: Connection, name: str, locked: Locked, max_age: timedelta) -> Iterator[Reading]:
    with in_time(connection), connection.cursor(row_factory=dict_row) as cursor:
        found: list[dict[str, Any]] = cursor.execute(_question(locked, max_age)).fetchall()
    hidden = [row for row in found if row["age"] is None]
    if hidden:
        role = quoted(connection.info.user)
        yield unknown(
            f"{READERS} on {name}",
            f"{connection.info.user} does not see for how long {len(hidden)} sessions on {name} read {locked.view}",
            f"GRANT pg_monitor TO {role}",
            kind=READERS,
        )
    for row in found:
        if row["age"] is not None:
            yield _holds(row, locked, name)
    if not found:
        yield ok(f"{READERS} on {name}", f"no long transaction on {name} reads {locked.view}", kind=READERS)


def _holds(row: Row, locked: Locked, standby: str | None) -> Reading:
    where = f" on {standby}" if standby else ""
    if row["pid"] is None:
        return stop(
            READERS,
            f"a prepared transaction holds a lock on {locked.view}",
            "SELECT gid, prepared FROM pg_prepared_xacts; then COMMIT PREPARED or ROLLBACK PREPARED",
            kind=READERS,
        )
    age = span(timedelta(seconds=row["age"]))
    return stop(
        f"{READERS}{where}",
        f"{session(row)}{where} has held {locked.view} in a transaction for {age}",
        f"let it end, or SELECT pg_terminate_backend({row['pid']}){where}",
        kind=READERS,
    )


def _question(locked: Locked, max_age: timedelta) -> sql.Composed:
    return files.query(
        "pacing",
        "readers",
        relations=sql.Literal(list(locked.relations)),
        database=sql.Literal(locked.database),
        max_age=sql.Literal(max_age),
    )
