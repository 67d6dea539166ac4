"""A run that outlives its connection: a restart, a failover or a cut line is waited out, and the work goes on.

Every attempt is a run of its own, with connections, leases and a row in `pgvmig.backfill_run` of its own. What was
committed is found there by the next attempt, whether its COMMIT was answered or not. Must not know how rows are
written.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from datetime import timedelta
from typing import Literal, TypeAlias
from uuid import UUID

import psycopg
from psycopg import errors as pg

from pgvmig import sql as files
from pgvmig.backfill import claims
from pgvmig.backfill.options import Options, Progress, Result
from pgvmig.backfill.runs import Counters, RunLog
from pgvmig.backfill.transactions import transaction
from pgvmig.backfill.watchdog import Watchdog
from pgvmig.catalog.connection import is_passing
from pgvmig.errors import ConflictError, DatabaseError

# Without --follow it is cron that tries for longer; a restart of PostgreSQL fits in.
SHORT_SERIES = 30.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 15.0

# What an attempt calls when its connection has been found good.
Connected: TypeAlias = Callable[[psycopg.Connection[object], UUID], None]
Attempt: TypeAlias = Callable[[Options, Connected], Result]


def supervised(options: Options, attempt: Attempt) -> Result:
    """Return what an attempt returns; when it loses its server, another is made after a growing pause.

    With `follow` as long as `max_time` allows, else for SHORT_SERIES seconds in which nothing is written. A server that
    was not to be had in the first place is an error at once. Raises what the attempt raises, and ConflictError when
    the connection string leads to another cluster than before.
    """
    return _Supervision(options).run(attempt)


class _Supervision:
    def __init__(self, options: Options) -> None:
        self._options = options
        self._began = time.monotonic()
        self._system: int | None = None
        self._runs: list[UUID] = []
        self._failures = 0
        self._failing_since = 0.0
        self._before: dict[str, Counters] = {}
        self._present: dict[str, Counters] = {}
        self._last: Progress | None = None
        self._watchdog: Watchdog | None = None

    def run(self, attempt: Attempt) -> Result:
        while True:
            try:
                with self._watching():
                    return self._whole(attempt(self._remaining(), self._connected))
            except DatabaseError as error:
                if not (self._runs and is_passing(error)):
                    raise
                self._lost(error)
            if (ended := self._ended()) is not None:
                return self._whole(Result(ended, {}, 0.0, timedelta(), None, None))

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Let no watchdog outlive its attempt, whose connection may have another's file descriptor by then."""
        try:
            yield
        finally:
            if self._watchdog is not None:
                self._watchdog.stop()
            self._watchdog = None

    def _remaining(self) -> Options:
        limit = self._options.max_time
        left = None if limit is None else max(limit - self._seconds, 0.001)
        return replace(self._options, max_time=left, report=self._report)

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def _connected(self, conn: psycopg.Connection[object], run_id: UUID) -> None:
        """See that it is the same cluster, and take the leases from the attempt before, which is dead."""
        self._watchdog = Watchdog(conn, lambda: self._ended() is not None)
        system = _system_identifier(conn)
        if self._system not in (None, system):
            raise ConflictError(
                f"the server is another cluster now (system identifier {system}, it was {self._system})",
                hazard="The rows, the versions and the leases of this run are those of the other one",
                next_step="check where --dsn leads, and start the worker again",
            )
        self._system = system
        for dead in self._runs[-1:]:
            _bury(conn, dead)
        self._runs.append(run_id)

    def _report(self, progress: Progress) -> None:
        name = progress.version.name
        if progress.counters.batches:
            self._failures = 0
        self._present[name] = progress.counters
        self._last = replace(progress, counters=_sum(self._before.get(name), progress.counters))
        self._options.report(self._last)

    def _lost(self, error: DatabaseError) -> None:
        """Wait before the next attempt. Raises DatabaseError when it has been tried for long enough."""
        self._before = {name: _sum(self._before.get(name), counters) for name, counters in self._present.items()} | {
            name: counters for name, counters in self._before.items() if name not in self._present
        }
        self._present = {}
        now = time.monotonic()
        if not self._failures:
            self._failing_since = now
        self._failures += 1
        if not self._options.follow and now - self._failing_since > SHORT_SERIES:
            raise _gave_up(error, now - self._failing_since) from error
        pause = min(_FIRST_PAUSE * 2 ** (self._failures - 1), _LONGEST_PAUSE) * random.uniform(0.5, 1)  # noqa: S311
        self._say(f"{error.found}; connecting again in {pause:.1f} s")
        limit = self._options.max_time
        self._options.stop.wait(pause if limit is None else min(pause, max(limit - self._seconds, 0)))

    def _say(self, trouble: str) -> None:
        if self._last is not None:
            self._options.report(replace(self._last, waiting=trouble))

    def _ended(self) -> Literal["time", "signal"] | None:
        if self._options.stop.is_set():
            return "signal"
        limit = self._options.max_time
        return "time" if limit is not None and self._seconds >= limit else None

    def _whole(self, last: Result) -> Result:
        """Return the result with what the attempts before have done, as far as they were told that it is committed."""
        names = self._before.keys() | last.versions.keys()
        done = {name: _sum(self._before.get(name), last.versions.get(name)) for name in sorted(names)}
        return replace(last, versions=done, seconds=self._seconds)


def _gave_up(error: DatabaseError, seconds: float) -> DatabaseError:
    return DatabaseError(
        f"the connection was lost, and for {seconds:.0f} s no other was to be had: {error.found}",
        hazard="The last batch may be committed or not; the next worker sees which, and its leases end by themselves",
        next_step="see that the primary runs (pg_isready), then run this again; with --follow it goes on by itself",
        **error.data,
    )


def _system_identifier(conn: psycopg.Connection[object]) -> int | None:
    """Return what a primary has in common with those that take its place; None where we may not ask."""
    try:
        row = conn.execute(files.query("pacing", "system_identifier")).fetchone()
    except pg.InsufficientPrivilege:
        return None
    return row[0] if isinstance(row, tuple) else None


def _bury(conn: psycopg.Connection[object], run_id: UUID) -> None:
    """End a run whose connection is lost. What its backend still holds locked is left alone: its leases run out."""
    with suppress(pg.LockNotAvailable), transaction(conn):
        claims.release_all(conn, run_id)
        RunLog(run_id).end(conn, "lost its connection")


def _sum(one: Counters | None, other: Counters | None) -> Counters:
    given = [counters for counters in (one, other) if counters is not None]
    whole = Counters()
    for field in fields(Counters):
        # Some figures do not apply to every layout and are None then.
        known = [value for counters in given if (value := getattr(counters, field.name)) is not None]
        if known:
            setattr(whole, field.name, sum(known))
    return whole
