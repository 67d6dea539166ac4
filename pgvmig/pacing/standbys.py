"""Reads the primary, its standbys and what the signals ask. Knows how to ask, not what the answers mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import psycopg
from psycopg import errors as pg

from pgvmig.catalog import standbys as catalog
from pgvmig.catalog.connection import translate, translated
from pgvmig.catalog.standbys import Standby
from pgvmig.errors import PgvmigError, SignalError
from pgvmig.pacing import aurora
from pgvmig.pacing.answers import Answers
from pgvmig.pacing.asking import Connection, close, in_time, open_primary, open_standby, row, rows
from pgvmig.pacing.definition import Signal
from pgvmig.pacing.limits import DEFAULTS, Limits
from pgvmig.pacing.registry import SIGNALS
from pgvmig.pacing.snapshot import Position, Snapshot
from pgvmig.pacing.units import quoted

__all__ = ["Connection", "DatabaseReader", "Reader"]


class Reader(Protocol):
    """Where snapshots come from: PostgreSQL, or a test's recording."""

    def read(self, limits: Limits = DEFAULTS) -> Snapshot:
        """Read once, what these limits make necessary. Raises PgvmigError: it has nothing left to go on from then."""
        ...

    def close(self) -> None:
        """Let go of the connections."""
        ...


class DatabaseReader:
    """Reads through a connection of its own, opened when it is needed and again after an error."""

    def __init__(
        self,
        dsn_or_connect: str | Callable[[], Connection],
        clock: Callable[[], float],
        signals: Sequence[Signal] = SIGNALS,
    ) -> None:
        self._connect = dsn_or_connect if callable(dsn_or_connect) else _opener(dsn_or_connect)
        self._clock = clock
        self._connection: Connection | None = None
        self._direct: dict[str, Connection] = {}
        self._answers = Answers(clock, signals)

    def read(self, limits: Limits = DEFAULTS) -> Snapshot:
        """Read the primary, each standby that was declared with a DSN, and what is due. Raises PgvmigError."""
        try:
            with translated():
                if self._connection is None:
                    self._connection = self._connect()
                snapshot = self._read(self._connection)
                return replace(snapshot, answers=self._answers.read(self._connection, limits, snapshot))
        except PgvmigError as error:
            denied = self._denied(error)
            self.close()
            if denied is None:
                raise
            raise denied from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close every connection; the next reading opens them again."""
        for connection in (*self._direct.values(), self._connection):
            if connection is not None:
                close(connection)
        self._direct.clear()
        self._answers.clear()
        self._connection = None

    def _read(self, connection: Connection) -> Snapshot:
        began = self._clock()
        with in_time(connection):
            primary = row(connection, "primary")
            declared = catalog.all_standbys(connection)
            replicas = rows(connection, "aurora") if primary["aurora"] else []
            dsns = {standby.name: standby.dsn for standby in declared if standby.dsn is not None}
            system = row(connection, "system_identifier")["system_identifier"] if dsns else None
        ended = self._clock()
        if primary["aurora"]:
            return _of_aurora(Snapshot(began=began, ended=ended, standbys=declared, **primary), replicas, declared)
        positions = self._positions(dsns, system) if primary["lsn"] is not None else {}
        return Snapshot(began=began, ended=ended, standbys=declared, positions=positions, **primary)

    def _denied(self, error: PgvmigError) -> SignalError | None:
        if self._connection is None or error.data.get("sqlstate") != pg.InsufficientPrivilege.sqlstate:
            return None
        role = quoted(self._connection.info.user)
        return SignalError(
            f"{role} may not read which standbys are declared: {error.found}",
            next_step=f"GRANT SELECT ON pgvmig.standby TO {role}; GRANT pg_monitor TO {role}",
        )

    def _positions(self, dsns: Mapping[str, str], system: int | None) -> dict[str, Position]:
        for dsn in self._direct.keys() - set(dsns.values()):
            close(self._direct.pop(dsn))
        return {name: self._position(dsn, system) for name, dsn in dsns.items()}

    def _position(self, dsn: str, system: int | None) -> Position:
        try:
            if dsn not in self._direct:
                self._direct[dsn] = open_standby(dsn)
            connection = self._direct[dsn]
            with in_time(connection):
                found = row(connection, "standby_position")
        except psycopg.Error as error:
            if dsn in self._direct:
                close(self._direct.pop(dsn))
            return Position(problem=f"its DSN does not answer ({translate(error).found})", next_step=_CHECK_DSN)
        if found["system_identifier"] != system:
            return Position(problem="its DSN leads to another cluster", next_step=_CHECK_DSN)
        if not found["in_recovery"]:
            return Position(problem="its DSN leads to a server that is no standby", next_step=_CHECK_DSN)
        return Position(replay_lsn=found["replay_lsn"])


_CHECK_DSN = "check it with psql, and give another with pgvmig standby add NAME --standby-dsn ..."


def _of_aurora(snapshot: Snapshot, replicas: list[dict[str, Any]], declared: list[Standby]) -> Snapshot:
    return replace(
        snapshot,
        lsn=None if snapshot.in_recovery else aurora.primary_lsn(replicas),
        standbys=aurora.standbys(replicas, declared),
        positions=aurora.problems(replicas),
    )


def _opener(dsn: str) -> Callable[[], Connection]:
    return lambda: open_primary(dsn)
