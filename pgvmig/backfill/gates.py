"""The gates of a run, one for each version: every table has its own signals, limits and costs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg

from pgvmig import sql as files
from pgvmig.backfill.diary import Diary
from pgvmig.backfill.gate import Gate
from pgvmig.backfill.lane import Lane
from pgvmig.backfill.options import Options
from pgvmig.backfill.runs import RunLog
from pgvmig.catalog.versions import Version
from pgvmig.pacing.pacer import AnyPacer, Pacer
from pgvmig.pacing.signals import Subject

# How long a run that does not follow waits for an operator's pause to end: cron starts the next one, and workers that
# hang for days pile up.
PAUSE_PATIENCE = 30.0


class Gates:
    """Opens and keeps them. `pids` are the run's own backends, which signals about blocked sessions look for."""

    def __init__(
        self,
        conn: psycopg.Connection[Any],
        options: Options,
        log: RunLog,
        stop: Callable[[], bool],
        pids: frozenset[int],
    ) -> None:
        self._conn = conn
        self._options = options
        self._log = log
        self._stop = stop
        self._pids = pids
        self._gates: dict[int, Gate] = {}

    def __getitem__(self, lane: Lane) -> Gate:
        return self._gates[lane.version.version_id]

    def open(self, version: Version) -> Gate:
        """Return the gate of a version, a new one if it had one before."""
        if version.version_id in self._gates:
            self._gates[version.version_id].pacer.close()
        rows, vector_relation = self._conn.execute(
            files.query("pace", "table"), {"version_id": version.version_id}
        ).fetchone() or (None, None)
        subject = Subject(
            relation=version.relation,
            slot=version.slot,
            version=version.version,
            pids=self._pids,
            vector_relation=vector_relation,
            rewrites=vector_relation is None,
        )
        pacer = self._pacer(subject)
        diary = Diary(self._conn, self._log.run_id, version, pacer)
        gate = Gate(pacer, diary, self._stop, self._options.report, rows)
        self._gates[version.version_id] = gate
        self._set_patience()
        return gate

    def close(self) -> None:
        """Close the pacers' connections."""
        for gate in self._gates.values():
            gate.pacer.close()

    @property
    def waited(self) -> timedelta:
        """How long the run has waited for signals."""
        return sum((gate.waited for gate in self._gates.values()), timedelta())

    @property
    def peak_lag(self) -> timedelta | None:
        """The largest lag that was seen."""
        return max((g.pacer.peak_lag for g in self._gates.values() if g.pacer.peak_lag is not None), default=None)

    @property
    def peak_lag_bytes(self) -> int | None:
        """The largest lag in bytes that was seen."""
        peaks = (gate.pacer.peak_lag_bytes for gate in self._gates.values())
        return max((peak for peak in peaks if peak is not None), default=None)

    def _pacer(self, subject: Subject) -> AnyPacer:
        options = self._options
        if options.pacer is not None:
            return options.pacer(subject)
        return Pacer.open(options.dsn, options.limits, subject=subject, ceiling=options.batch_size)

    def _set_patience(self) -> None:
        """Beside other versions a paused one is set aside at once; alone it is waited for, while following for ever."""
        alone = None if self._options.follow else PAUSE_PATIENCE
        for gate in self._gates.values():
            gate.pacer.pause_patience = alone if len(self._gates) == 1 else 0.0
