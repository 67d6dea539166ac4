"""What a signal is: what it watches and why, how it is asked, and how its answer is judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import errors as pg

from pgvmig.errors import PgvmigError
from pgvmig.pacing.limits import Limits
from pgvmig.pacing.ring import History
from pgvmig.pacing.signals import Reading, SignalState, Subject, Verdict
from pgvmig.pacing.snapshot import Answer, Rows, Snapshot
from pgvmig.pacing.units import quoted

# Older than that, a reading says nothing about now: this process was suspended, or the server took its time.
MAX_AGE_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a signal is judged by. `rows` are the answer to its own question."""

    snapshot: Snapshot
    limits: Limits
    history: History
    now: float
    subject: Subject | None = None
    rows: Rows = ()

    def about(self, row: Mapping[str, Any]) -> bool:
        """Whether a row's `relation` is one that we write. Who does not say what is written is meant by all of them."""
        return self.subject is None or row["relation"] in self.subject.relations


def unset(*names: str) -> Callable[[Limits, Snapshot], str | None]:
    """Return an `off` for a signal that applies as soon as one of these limits is set."""

    def off(limits: Limits, _: Snapshot) -> str | None:
        if any(getattr(limits, name) is not None for name in names):
            return None
        return f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} not set"

    return off


def _never(_: Limits, __: Snapshot) -> str | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """A signal, for the reader, the judge and the documentation.

    `meaning` is one line, `incident` what happens without it, `limits` the names of those that rule it.
    `off` gives the proof that it does not apply, None when it does; what is off is not asked.
    How it is asked, at most one of: `query` names a block of sql/queries/pacing.sql, without parameters; `ask` is run
    in a transaction of its own; `probe` looks at this machine and may raise OSError. None: the snapshot itself is
    enough. `every`: seconds that an answer serves. `needs_figures`: without pg_read_all_stats PostgreSQL shows nothing
    instead of an error. `grant`: what lets a role read it. `judge_error`: what an error means where it is not UNKNOWN.
    `kind`: its readings' kind, where that is not its name.
    """

    name: str
    meaning: str
    incident: str
    judge: Callable[[Look], tuple[Reading, ...]]
    limits: tuple[str, ...] = ()
    default: str = "on"
    off: Callable[[Limits, Snapshot], str | None] = _never
    query: str | None = None
    ask: Callable[[psycopg.Connection[Any], Limits], Rows] | None = None
    probe: Callable[[Limits], Rows] | None = None
    every: float = 0.0
    needs_figures: bool = False
    grant: str = "pg_monitor"
    judge_error: Callable[[PgvmigError], Reading] | None = None
    kind: str | None = None

    @property
    def asks(self) -> bool:
        """Whether it has a question of its own."""
        return any(how is not None for how in (self.query, self.ask, self.probe))

    def read(self, look: Look) -> tuple[Reading, ...]:
        """Return its readings; at least one. What is not known is UNKNOWN."""
        proof = self.off(look.limits, look.snapshot)
        if proof is not None:
            readings: tuple[Reading, ...] = (self._reading(SignalState.NOT_APPLICABLE, proof),)
        else:
            readings = self._read(look) if self.asks else self.judge(look)
        return tuple(replace(reading, kind=self.kind or self.name) for reading in readings)

    def _read(self, look: Look) -> tuple[Reading, ...]:
        if self.needs_figures and not look.snapshot.sees_figures:
            return (self._no_privilege(look.snapshot.role),)
        answer = look.snapshot.answers.get(self.name)
        if answer is None:
            return (self._reading(SignalState.UNKNOWN, f"{self.name} was not read"),)
        if answer.error is not None:
            return (self._failed(answer.error, look.snapshot.role),)
        readings = self.judge(replace(look, rows=answer.rows))
        return self._too_old(look, answer) or readings if Verdict(readings).may_write else readings

    def _too_old(self, look: Look, answer: Answer) -> tuple[Reading, ...]:
        age, allowed = look.now - answer.began, MAX_AGE_SECONDS + self.every
        if age <= allowed:
            return ()
        reason = f"the reading of {self.name} is {age:.1f} s old and counts for {allowed:g} s"
        return (self._reading(SignalState.UNKNOWN, reason),)

    def _failed(self, error: PgvmigError, role: str) -> Reading:
        if self.judge_error is not None:
            return self.judge_error(error)
        denied = error.data.get("sqlstate") == pg.InsufficientPrivilege.sqlstate
        step = f"GRANT {self.grant} TO {quoted(role)}" if denied else error.next_step
        return self._reading(SignalState.UNKNOWN, f"{self.name} cannot be read: {error.found}", step)

    def _no_privilege(self, role: str) -> Reading:
        return self._reading(
            SignalState.UNKNOWN,
            f"{role} does not see what other sessions do (it lacks pg_read_all_stats)",
            f"GRANT pg_monitor TO {quoted(role)}",
        )

    def _reading(self, state: SignalState, reason: str, next_step: str | None = None) -> Reading:
        return Reading(signal=self.name, state=state, reason=reason, next_step=next_step)
