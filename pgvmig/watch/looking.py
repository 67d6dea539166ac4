"""One look: every trigger of a target against what services report of the versions that are on trial."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row, scalar_row

from pgvmig import routing, switch
from pgvmig import sql as files
from pgvmig.address import Address, Table
from pgvmig.catalog.connection import translated
from pgvmig.catalog.versions import Version
from pgvmig.errors import BlockedError, IllegalTransitionError, LockNotAvailableError, NotFoundError, PgvmigError
from pgvmig.runner import ConnectionRunner
from pgvmig.terms import Terms
from pgvmig.watch.judging import Judgement, Summary, judge
from pgvmig.watch.triggers import from_row

# Who acts, in the diary of events.
SOURCE = "watch"
_PRUNED_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A version that is judged: the active one since its switch, or a candidate beside it."""

    version: str
    against: str | None
    candidate: bool
    since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What was done about a tripped trigger: `done` is what the database answered, `refused` why it would not."""

    verb: str
    version: str
    reason: str
    done: dict[str, Any] | None = None
    refused: PgvmigError | None = None

    @property
    def changed(self) -> bool:
        """Whether it changed anything; somebody else may have been faster."""
        return bool(self.done and self.done["changed"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look has found. `trouble`: why there was nothing to see."""

    target: str
    at: datetime | None = None
    trials: list[Trial] = field(default_factory=list)
    judgements: list[Judgement] = field(default_factory=list)
    action: Action | None = None
    trouble: str | None = None

    @property
    def tripped(self) -> list[Judgement]:
        """The judgements that say to go back."""
        return [judgement for judgement in self.judgements if judgement.tripped]

    @property
    def active(self) -> str | None:
        """The active version."""
        return next((trial.version for trial in self.trials if not trial.candidate), None)

    @property
    def worst(self) -> tuple[Trial, Judgement] | None:
        """What to act on: first the active version, whose rollback ends a rollout, too; last what has no way back."""
        by_version = {trial.version: trial for trial in self.trials}
        found = [(by_version[judgement.version], judgement) for judgement in self.tripped]
        return min(found, key=lambda each: (each[0].against is None, each[0].candidate), default=None)

    def next_step(self) -> str | None:
        """Return the command that goes back, None while nothing has tripped."""
        if self.worst is None:
            return None
        trial, _ = self.worst
        if trial.against is None:
            return f"pgvmig status {self.target}"
        return f"pgvmig route {self.target} --off" if trial.candidate else f"pgvmig rollback {self.target}"


def look(conn: psycopg.Connection[Any], version: Version) -> Look:
    """Return what the triggers of a version's target say now. Raises DatabaseError."""
    names = {"relation": sql.Literal(version.relation), "slot": sql.Literal(version.slot)}
    with translated(), conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(files.query("watch", "look", **names)).fetchall()
    if not rows:
        return Look(target=version.label, trouble=f"{version.label} has no active version")
    return Look(
        target=version.label,
        at=rows[0]["at"],
        trials=list({row["version"]: _trial(row) for row in rows}.values()),
        judgements=[_judged(row) for row in rows if row["metric"] is not None],
        trouble=None if rows[0]["metric"] is not None else f"{version.label} has no triggers any more",
    )


def planned(found: Look) -> Action | None:
    """Return what is to be done about a look, None while nothing has tripped."""
    if found.worst is None:
        return None
    trial, judgement = found.worst
    verb = "unroute" if trial.candidate else "roll back"
    return Action(verb=verb, version=trial.version, reason=f"trigger {judgement.trigger.name}: {judgement.text}")


def act(conn: psycopg.Connection[Any], version: Version, found: Look, dsn: str) -> Action | None:
    """Go back from the version whose trigger has tripped: a rollback for the active one, its route for a candidate.

    By `dsn` standbys and long readers are asked before a rollback. Names the version to leave, so that nothing happens
    when somebody was faster. A refusal (a gate, a lock, no version before it) is part of the answer; a lost connection
    raises DatabaseError.
    """
    action = planned(found)
    if action is None or found.worst is None:
        return None
    trial, _ = found.worst
    table = Table(version.table_schema, version.table_name)
    where = Address(table=table, version=trial.version, slot=version.slot)
    run = ConnectionRunner(conn, SOURCE)
    try:
        if trial.candidate:
            return replace(action, done=routing.unroute(run, where, action.reason, only=True))
        if trial.against is None:
            raise _no_way_back(version.label, trial.version)
        return replace(action, done=switch.roll_back(run, where, Terms(reason=action.reason), beside=dsn))
    except (BlockedError, IllegalTransitionError, LockNotAvailableError, NotFoundError) as error:
        return replace(action, refused=error)


def prune(conn: psycopg.Connection[Any], version: Version, keep: timedelta) -> int:
    """Forget the target's values that are older; return how many those were."""
    names = {"relation": sql.Literal(version.relation), "slot": sql.Literal(version.slot), "keep": sql.Literal(keep)}
    statement = files.query("watch", "prune", **names, most=sql.Literal(_PRUNED_AT_ONCE))
    forgotten, last = 0, _PRUNED_AT_ONCE
    with translated(), conn.cursor(row_factory=scalar_row) as cursor:
        while last == _PRUNED_AT_ONCE:
            last = cursor.execute(statement).fetchone() or 0
            forgotten += last
    return forgotten


def _trial(row: dict[str, Any]) -> Trial:
    return Trial(**{name: row[name] for name in ("version", "against", "candidate", "since")})


def _judged(row: dict[str, Any]) -> Judgement:
    now = Summary(values=row["recorded"], mean=row["mean"], p95=row["p95"])
    before = None
    if row["against"] is not None and row["relative"]:
        before = Summary(values=row["baseline_recorded"], mean=row["baseline_mean"], p95=row["baseline_p95"])
    return judge(from_row(row), row["version"], now, row["against"], before)


def _no_way_back(target: str, version: str) -> NotFoundError:
    return NotFoundError(
        f"{target} {version} is the first version: there is none before it to go back to",
        hazard="Leaving it would take the current view away from whoever searches there",
        next_step=f"pgvmig status {target}",
    )
