"""Look again and again: until a trigger trips, the time is up, or somebody says stop. A lost server is waited for."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import psycopg

from pgvmig.catalog import connection, schema, versions
from pgvmig.catalog.versions import Version
from pgvmig.errors import DatabaseError, NotFoundError, UsageError
from pgvmig.runner import ConnectionRunner
from pgvmig.watch import looking, triggers
from pgvmig.watch.looking import Action, Look

_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 15.0
_PRUNING = 3600.0


def _ignore(_: Look) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to watch and for how long. `roll_back`: go back when a trigger trips. `keep`: prune values older than that.

    `interval` and `max_time` are seconds. `report` is told of every look, `stop` is set from outside to end.
    """

    dsn: str
    target: str
    once: bool = False
    interval: float = 10.0
    max_time: float | None = None
    roll_back: bool = False
    keep: timedelta | None = None
    report: Callable[[Look], None] = _ignore
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        if self.interval <= 0:
            raise UsageError(f"an interval of {self.interval:g} s", next_step="give a number above 0")
        if self.max_time is not None and self.max_time <= 0:
            raise UsageError(f"max time is {self.max_time:g} s", next_step="give a number above 0, or leave it out")


def watch(options: Options) -> bool:
    """Look until a trigger has tripped, and return true; false when the time was up, or `stop` was set.

    With `roll_back` a tripped trigger is acted on, and where that is refused it is tried again with the next look, as
    long as the trigger still trips. A server that was to be had in the first place is waited for when it goes away.
    Raises NotFoundError without triggers, UsageError, DatabaseError.
    """
    return _Watch(options).run()


class _Watch:
    def __init__(self, options: Options) -> None:
        self._options = options
        self._began = time.monotonic()
        self._conn: psycopg.Connection[Any] | None = None
        self._met = False
        self._failures = 0
        self._pruned: float | None = None
        self._tripped = False
        self._acting: Action | None = None

    def run(self) -> bool:
        try:
            while True:
                found = self._attempt()
                if found is not None and self._ends(found):
                    return self._tripped
                if self._over():
                    return self._tripped
                self._wait(self._options.interval if found is not None else self._pause())
                if self._over():
                    return self._tripped
        finally:
            self._close()

    def _attempt(self) -> Look | None:
        """Return what was seen, None when the server was not to be had."""
        try:
            with connection.translated():
                found = self._look()
        except DatabaseError as error:
            self._close()
            if not self._met or self._options.once or not connection.is_passing(error):
                raise
            self._failures += 1
            self._options.report(Look(target=self._options.target, trouble=f"{error.found}; connecting again"))
            return None
        self._failures = 0
        self._tripped = bool(found.tripped or found.action)
        self._options.report(found)
        return found

    def _look(self) -> Look:
        conn = self._connected()
        version = versions.select(conn, self._options.target)[0]
        if not self._met:
            _require_triggers(conn, version)
        self._met = True
        self._prune(conn, version)
        return self._acted(conn, version, looking.look(conn, version))

    def _acted(self, conn: psycopg.Connection[Any], version: Version, found: Look) -> Look:
        """Go back when that is wanted. When the server was lost while it did, the next look says whether it had."""
        before, self._acting = self._acting, None
        if before is not None and before.version not in {trial.version for trial in found.trials}:
            return replace(found, action=replace(before, done={"changed": True, "version": found.active}))
        if not (self._options.roll_back and found.tripped):
            return found
        self._acting = looking.planned(found)
        action = looking.act(conn, version, found, self._options.dsn)
        self._acting = None
        return replace(found, action=action)

    def _connected(self) -> psycopg.Connection[Any]:
        if self._conn is None:
            self._conn = connection.connect(self._options.dsn, application_name="pgvmig watch")
            schema.require(ConnectionRunner(self._conn))
        return self._conn

    def _prune(self, conn: psycopg.Connection[Any], version: Version) -> None:
        now = time.monotonic()
        if self._options.keep is not None and (self._pruned is None or now - self._pruned > _PRUNING):
            looking.prune(conn, version, self._options.keep)
            self._pruned = now

    def _ends(self, found: Look) -> bool:
        if self._options.once:
            return True
        refused = found.action is not None and found.action.refused is not None
        return self._tripped and not refused

    def _over(self) -> bool:
        limit = self._options.max_time
        return self._options.stop.is_set() or (limit is not None and time.monotonic() - self._began >= limit)

    def _pause(self) -> float:
        longest: float = min(_FIRST_PAUSE * 2 ** (self._failures - 1), _LONGEST_PAUSE)
        return longest * random.uniform(0.5, 1)  # noqa: S311

    def _wait(self, seconds: float) -> None:
        limit = self._options.max_time
        left = seconds if limit is None else min(seconds, limit - (time.monotonic() - self._began))
        self._options.stop.wait(max(left, 0))

    def _close(self) -> None:
        if self._conn is not None:
            self._conn.close()
        self._conn = None


def _require_triggers(conn: psycopg.Connection[Any], version: Version) -> None:
    if not triggers.declared(conn, version):
        raise NotFoundError(
            f"{version.label} has no triggers",
            hazard="Nothing that services report would ever be found bad",
            next_step=f"pgvmig trigger add {version.label} errors --above 0.05",
        )
