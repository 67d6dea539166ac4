"""Asks the signals' questions: all that are due in one statement, each by itself when that fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import psycopg
from psycopg import errors as pg
from psycopg import sql as pq
from psycopg.rows import tuple_row

from pgvmig import sql
from pgvmig.catalog.connection import translate
from pgvmig.errors import PgvmigError
from pgvmig.pacing.asking import Connection, in_time
from pgvmig.pacing.definition import Signal
from pgvmig.pacing.limits import Limits
from pgvmig.pacing.registry import SIGNALS
from pgvmig.pacing.snapshot import Answer, Rows, Snapshot


class Answers:
    """The latest answer to each signal's question, asked again when it is due.

    Planning is most of what a question costs, so they are asked in one statement. One that fails is asked by itself
    from then on, until it succeeds: it must not hide the others, nor make them be asked twice.
    """

    def __init__(self, clock: Callable[[], float], signals: Sequence[Signal] = SIGNALS) -> None:
        self._clock = clock
        self._signals = signals
        self._answers: dict[str, Answer] = {}
        self._asked_with: dict[str, Limits] = {}
        self._apart: set[str] = set()

    def clear(self) -> None:
        """Forget everything: the next connection may be to another server."""
        self._answers.clear()
        self._apart.clear()

    def read(self, connection: Connection, limits: Limits, snapshot: Snapshot) -> dict[str, Answer]:
        """Return the answers for these limits, by the signals' names. Raises psycopg.Error when the connection is lost.

        `snapshot` is what was read of the server before, and decides what there is to be asked.
        """
        applies = [signal for signal in self._signals if signal.asks and self._may_ask(signal, limits, snapshot)]
        due = [signal for signal in applies if self._is_due(signal, limits)]
        self._answers = {signal.name: self._answers[signal.name] for signal in applies if signal not in due}
        together = [signal for signal in due if signal.query is not None and signal.name not in self._apart]
        self._ask_together(connection, together)
        for signal in due:
            if signal.name not in self._answers:
                self._ask_apart(connection, limits, signal)
            self._asked_with[signal.name] = limits
        return dict(self._answers)

    def _may_ask(self, signal: Signal, limits: Limits, snapshot: Snapshot) -> bool:
        blind = signal.needs_figures and not snapshot.sees_figures
        return not blind and signal.off(limits, snapshot) is None

    def _is_due(self, signal: Signal, limits: Limits) -> bool:
        last = self._answers.get(signal.name)
        if last is None or last.error is not None or self._clock() - last.began >= signal.every:
            return True
        before = self._asked_with[signal.name]
        return any(getattr(before, name) != getattr(limits, name) for name in signal.limits)

    def _ask_together(self, connection: Connection, signals: Sequence[Signal]) -> None:
        if not signals:
            return
        began = self._clock()
        try:
            found = _asked(connection, signals)
        except psycopg.Error as error:
            if connection.broken:
                raise
            if isinstance(error, pg.QueryCanceled):
                # It took too long; asked one by one they would take longer still.
                self._answers |= {signal.name: Answer(began, error=translate(error)) for signal in signals}
            return
        self._answers |= {signal.name: Answer(began, rows) for signal, rows in zip(signals, found, strict=True)}

    def _ask_apart(self, connection: Connection, limits: Limits, signal: Signal) -> None:
        began = self._clock()
        try:
            self._answers[signal.name] = Answer(began, _asked_alone(connection, limits, signal))
            self._apart.discard(signal.name)
        except psycopg.Error as error:
            if connection.broken:
                raise
            self._answers[signal.name] = Answer(began, error=translate(error))
            self._apart.add(signal.name)
        except OSError as error:
            found = PgvmigError(f"{error.filename}: {error.strerror}", next_step="check the path, and who may enter it")
            self._answers[signal.name] = Answer(began, error=found)


def _asked_alone(connection: Connection, limits: Limits, signal: Signal) -> Rows:
    if signal.probe is not None:
        return signal.probe(limits)
    if signal.ask is None:
        return _asked(connection, [signal])[0]
    with in_time(connection):
        return signal.ask(connection, limits)


def _asked(connection: Connection, signals: Iterable[Signal]) -> tuple[Rows, ...]:
    with in_time(connection), connection.cursor(row_factory=tuple_row) as cursor:
        found = cursor.execute(_statement(signals)).fetchone()
    if found is None:
        raise AssertionError
    return found


def _statement(signals: Iterable[Signal]) -> pq.Composed:
    """Return one statement with a column of JSON for each signal: an array of its rows, as objects."""
    column = pq.SQL("(SELECT coalesce(jsonb_agg(to_jsonb(q)), '[]') FROM (\n{}\n) AS q)")
    columns: list[Any] = [column.format(sql.query("pacing", signal.query or "")) for signal in signals]
    activity = sql.query("pacing", "activity")
    return pq.SQL("WITH activity AS MATERIALIZED (\n{}\n)\nSELECT {}").format(activity, pq.SQL(",\n").join(columns))
