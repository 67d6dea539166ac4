"""One reading of the primary and all that is around it, before anybody has judged it. Plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pgvmig.catalog.standbys import Standby
from pgvmig.errors import PgvmigError

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Position:
    """What a standby itself says when asked through its DSN, or why it does not."""

    replay_lsn: int | None = None
    problem: str | None = None
    next_step: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a signal's question brought: rows, or an error. `began`: the clock before it was asked."""

    began: float
    rows: Rows = ()
    error: PgvmigError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One reading, between two readings of the clock.

    `lsn` was read before the standbys' positions; None means that the server is in recovery itself. `xid` is the next
    transaction's. `answers` are by the signals' names; what is missing there was not asked, or was not to be had.
    """

    began: float
    ended: float
    lsn: int | None
    role: str
    sees_figures: bool
    no_standbys: bool
    standbys: Sequence[Standby]
    positions: Mapping[str, Position] = field(default_factory=dict)
    in_recovery: bool = False
    xid: int | None = None
    aurora: bool = False
    archive_mode: str | None = None
    synchronous_standby_names: str | None = None
    answers: Mapping[str, Answer] = field(default_factory=dict)

    @property
    def replayed(self) -> dict[str, int]:
        """How far each declared standby has replayed: what it says itself, else what the primary has heard.

        Without those of which one connection has not reported.
        """
        found: dict[str, list[int | None]] = {}
        for row in self.standbys:
            if row.declared and row.connected:
                given = self.positions.get(row.name)
                found.setdefault(row.name, []).append(row.replay_lsn if given is None else given.replay_lsn)
        return {name: min(known) for name, lsns in found.items() if len(known := _numbers(lsns)) == len(lsns)}


def _numbers(values: Sequence[int | None]) -> list[int]:
    return [value for value in values if value is not None]
