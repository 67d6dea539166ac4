"""The worker's loop: claim, have embedded, wait for the signals, write. One thread does all but the asking."""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal
from uuid import uuid4

import psycopg
from psycopg import errors as pg

from pgvmig import sql as files
from pgvmig.backfill import claims, faults
from pgvmig.backfill.batches import Batch
from pgvmig.backfill.companion import Companion
from pgvmig.backfill.gates import Gates
from pgvmig.backfill.lane import Lane
from pgvmig.backfill.options import Options, Result, Why
from pgvmig.backfill.requests import Requests
from pgvmig.backfill.runs import RunLog
from pgvmig.backfill.supervision import Connected, supervised
from pgvmig.catalog import control, schema, versions
from pgvmig.catalog.connection import connect, translated
from pgvmig.catalog.versions import Version
from pgvmig.errors import ConflictError, DatabaseError, PgvmigError, ProviderError, StoppedError
from pgvmig.pacing.controller import FIRST_BATCH
from pgvmig.runner import ConnectionRunner

# How long answers that are on their way are waited for: when the run is asked to end, and when it ends by itself.
_GRACE, _LONG_GRACE = 1.0, 10.0
# Between two looks: at requests on their way, at an empty log, at whether all have caught up, at which versions exist.
_TICK = 0.1
_POLL = 0.5
_LOOK = 0.5
_REFRESH = 5.0


def run(options: Options) -> Result:
    """Work until nothing is left, the time is over or somebody asks to stop. Raises the errors of pgvmig/errors.py.

    However it ends, no row is half written, and what was claimed and not done is free for the next worker.
    """
    return supervised(options, _attempt)


def _attempt(options: Options, connected: Connected) -> Result:
    ending = _Ending(options)
    with translated(), ExitStack() as stack:
        conn = stack.enter_context(connect(options.dsn, application_name="pgvmig backfill"))
        schema.require(ConnectionRunner(conn))
        _require_primary(conn)
        log = RunLog(uuid4())
        connected(conn, log.run_id)
        if (why := _wait_until_settled(conn, options, ending)) is not None:
            return Result(why, {}, ending.seconds, timedelta(seconds=ending.seconds), None, None)
        lease = timedelta(seconds=options.lease)
        companion = stack.enter_context(Companion(options.dsn, log.run_id, lease, follow=options.follow))
        pids = frozenset({conn.info.backend_pid, companion.pid})
        gates = Gates(conn, options, log, ending.near, pids)
        stack.callback(gates.close)
        requests = Requests(ending.near, persist=options.follow)
        stack.callback(requests.close)
        worker = _Worker(conn, options, ending, log, companion, requests, gates)
        why = worker.run()
        return Result(
            why=why,
            versions={lane.version.name: lane.counters for lane in worker.lanes},
            seconds=ending.seconds,
            waited=gates.waited,
            peak_lag=gates.peak_lag,
            peak_lag_bytes=gates.peak_lag_bytes,
        )


class _Ending:
    """Whether the run is asked to end, by its time limit or from outside."""

    def __init__(self, options: Options) -> None:
        self._began = time.monotonic()
        self._options = options

    @property
    def seconds(self) -> float:
        """How long the run has been on."""
        return time.monotonic() - self._began

    def why(self) -> Literal["time", "signal"] | None:
        """Return what asks for it, None when nothing does."""
        if self._options.stop.is_set():
            return "signal"
        limit = self._options.max_time
        return "time" if limit is not None and self.seconds >= limit else None

    def near(self) -> bool:
        """Whether anything asks for it."""
        return self.why() is not None


@dataclass
class _Worker:
    conn: psycopg.Connection[Any]
    options: Options
    ending: _Ending
    log: RunLog
    companion: Companion
    requests: Requests
    gates: Gates

    def __post_init__(self) -> None:
        self._lanes: dict[int, Lane] = {}
        self._next_look = self._next_refresh = 0.0

    @property
    def lanes(self) -> list[Lane]:
        """One for each version that was worked on."""
        return list(self._lanes.values())

    def run(self) -> Why:
        """Do the work; leave no lease and say in the run's row how it ended."""
        ended = "killed by an error of its own"
        try:
            why = self._work()
            ended = why
        except PgvmigError as error:
            ended = error.found
            raise
        finally:
            # Without the connection the leases end by themselves.
            with suppress(psycopg.Error):
                claims.release_all(self.conn, self.log.run_id)
                self.log.end(self.conn, ended)
        return why

    def _work(self) -> Why:
        while True:
            try:
                why = self.ending.why() or self._turn()
            except StoppedError:
                continue  # a request noticed the end before we did
            if why is not None:
                self._wind_down()
                return why

    def _turn(self) -> Why | None:
        """Do what can be done now; return why there is nothing left to do, or None."""
        if self.companion.error is not None:
            raise self.companion.error
        self._refresh()
        self._reopen()
        busy = self._claim()
        busy = self._take_answer(0 if busy or not self.requests else _TICK) or busy
        busy = self._retry_locked() or busy
        idle = not busy and not self.requests
        over = self._look(at_once=idle)
        if idle and over is None:
            self._rest()
        return over

    def _claim(self) -> bool:
        claimed = False
        for lane in self.lanes:
            if not self.ending.near() and self.requests.room(lane.version) and self.gates[lane].may_claim():
                batch = lane.next_batch()
                if batch is not None:
                    claimed = True
                    self._dispatch(lane, batch)
        return claimed

    def _dispatch(self, lane: Lane, batch: Batch) -> None:
        if not batch.to_embed:
            self._write(lane, batch)
        elif self.gates[lane].may_send(lane):
            self.requests.send(lane, batch)
        else:
            lane.settle(batch, complete=False)

    def _take_answer(self, timeout: float) -> bool:
        answered = self.requests.collect(timeout)
        if answered is not None:
            lane, batch = answered
            self.gates[lane].answered(batch)
            self._write(lane, batch)
            return True
        if timeout:
            faults.reach("during-request")
            self._say_trouble()
        return False

    def _say_trouble(self) -> None:
        for lane in self.lanes:
            if (trouble := self.requests.trouble(lane.version)) is not None:
                self.gates[lane].asks_again(lane, trouble)

    def _retry_locked(self) -> bool:
        due = [(lane, batch) for lane in self.lanes for batch in lane.due()]
        for lane, batch in due:
            self._write(lane, batch)
        return bool(due)

    def _write(self, lane: Lane, batch: Batch) -> None:
        if batch.settled:
            lane.settle(batch)
            return
        for piece in lane.pieces(batch):
            if self.gates[lane].may_write(lane):
                self.gates[lane].write(lane, piece)
            else:
                lane.settle(piece, complete=False)

    def _look(self, *, at_once: bool) -> Why | None:
        """See whether all versions have caught up; then a run that does not follow is over."""
        if not at_once and time.monotonic() < self._next_look:
            return None
        self._next_look = time.monotonic() + _LOOK
        for lane in self.lanes:
            lane.look()
        if self.options.follow or not all(self._over(lane) for lane in self.lanes):
            return None
        left = [lane for lane in self.lanes if not (lane.caught_up or lane.gone)]
        if any(self.gates[lane].aside for lane in left):
            return "paused"
        return "locked" if left else "done"

    def _over(self, lane: Lane) -> bool:
        return lane.caught_up or lane.gone or lane.locked or self.gates[lane].aside

    def _rest(self) -> None:
        """Nothing to do: wait for new rows, for other workers' leases to end, for the time to be over."""
        until = time.monotonic() + (_POLL if self.options.follow else 2 * _TICK)
        while time.monotonic() < until and not self.ending.near():
            if self.companion.woken.wait(_TICK):
                self.companion.woken.clear()
                return

    def _wind_down(self) -> None:
        """Write what is answered soon; what is not goes back."""
        until = time.monotonic() + (_GRACE if self.ending.near() else _LONG_GRACE)
        while self.requests and (left := until - time.monotonic()) > 0:
            # The run is over: a provider's trouble is the next one's.
            with suppress(ProviderError, StoppedError):
                self._take_answer(min(left, _TICK))

    def _refresh(self) -> None:
        """Take on versions that were added; a run that does not follow keeps those that it began with."""
        if self._lanes and (not self.options.follow or time.monotonic() < self._next_refresh):
            return
        self._next_refresh = time.monotonic() + _REFRESH
        asked = self.options.version is not None
        for version in versions.select(self.conn, self.options.target, self.options.version):
            lane = self._lanes.get(version.version_id)
            if asked:
                _require_workable(version)
            if _workable(version) and (lane is None or lane.gone):
                self._lanes[version.version_id] = self._open(version, asked=asked and lane is None)
        self.companion.look_after(self._lanes)

    def _reopen(self) -> None:
        """Open anew what has another table now: other names, types or keys."""
        changed = {identity: lane for identity, lane in self._lanes.items() if lane.changed}
        there = {v.version_id: v for v in versions.all_versions(self.conn)} if changed else {}
        for identity, lane in changed.items():
            version = there.get(identity)
            if version is None or not _workable(version):  # dropped or retired since
                lane.changed, lane.gone = False, True
                continue
            self._lanes[identity] = self._open(version, asked=False)
            self._lanes[identity].counters = lane.counters

    def _open(self, version: Version, *, asked: bool) -> Lane:
        self.requests.open(version)
        self.log.begin(self.conn, version, self.options.limits)
        gate = self.gates.open(version)
        lane = Lane(
            self.conn,
            version,
            self.log,
            lease=timedelta(seconds=self.options.lease),
            batch_size=gate.batch_size,
            stop=self.ending.near,
            request_size=min(self.requests.size(version), FIRST_BATCH, self.options.batch_size),
        )
        lane.begin(asked=asked)
        return lane


def _workable(version: Version) -> bool:
    return version.writer == "worker" and version.captured


def _require_workable(version: Version) -> None:
    if not version.captured:
        raise ConflictError(f"{version.name} is retired", next_step="add it again with op.add_embedding()")
    if version.writer != "worker":
        raise ConflictError(
            f"the vectors of {version.name} are written by the application",
            hazard="Two writers would overwrite each other",
            next_step="cut over to another version first: from then on the worker keeps this one fresh",
        )


def _wait_until_settled(conn: psycopg.Connection[Any], options: Options, ending: _Ending) -> Why | None:
    """Do nothing in a copy of another database until somebody settles it; only a run that follows waits for that."""
    while control.is_copy(conn):
        if not options.follow:
            return "paused"
        if (why := ending.why()) is not None:
            return why
        options.stop.wait(_LOOK)
    return None


def _require_primary(conn: psycopg.Connection[Any]) -> None:
    in_recovery, read_only = conn.execute(files.query("backfill", "server_state")).fetchone() or (True, True)
    if in_recovery:
        raise DatabaseError(
            "this server is a standby, which cannot be written to",
            next_step="give --dsn the primary",
            sqlstate=pg.ReadOnlySqlTransaction.sqlstate,
        )
    if read_only:
        raise DatabaseError(
            "transactions are read-only here (default_transaction_read_only)",
            next_step="give --dsn the primary, or ALTER ROLE ... SET default_transaction_read_only = off",
            sqlstate=pg.ReadOnlySqlTransaction.sqlstate,
        )
