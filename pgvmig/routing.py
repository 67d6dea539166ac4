"""Gradual rollout: which share of the keys, and which keys by name, one candidate serves beside the active version.

The database decides and keeps it (sql/functions/85_route.sql); this asks it to. 100 % is the cutover, in switch.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import class_row, tuple_row

from pgvmig import sql as files
from pgvmig.address import Address
from pgvmig.catalog import roles
from pgvmig.catalog.connection import translated
from pgvmig.catalog.versions import Version
from pgvmig.names import DEFAULT_SLOT
from pgvmig.runner import Runner, decoded, one
from pgvmig.terms import Terms

BUCKETS = 10_000
# Over which time the share that versions really served is shown.
WINDOW = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Who serves a target's keys: the active version, and beside it the candidate (None: there is none)."""

    target: str
    active: str | None
    candidate: str | None
    percent: float
    keys: list[str] = field(default_factory=list)
    changed_at: datetime | None


def bucket(key: str, version: str, slot: str = DEFAULT_SLOT) -> int:
    """Return where a key stands in a version's rollout, 0 to 9999; it is served where this is under 100 times percent.

    As `pgvmig.route_bucket()` does, for whoever wants to know without a database which users come first.
    """
    digest = hashlib.sha256(f"{slot}/{version}/{key}".encode()).digest()
    return int.from_bytes(digest[:4]) % BUCKETS


def route_of(conn: psycopg.Connection[Any], version: Version) -> Route:
    """Return the present route of a version's target."""
    statement = files.query("route", "route", relation=sql.Literal(version.relation), slot=sql.Literal(version.slot))
    with translated(), conn.cursor(row_factory=class_row(Route)) as cursor:
        return cursor.execute(statement).fetchall()[0]


def served(conn: psycopg.Connection[Any], version: Version, window: timedelta = WINDOW) -> dict[str, int]:
    """Return how many searches each version of the target answered lately, as services report them."""
    statement = files.query(
        "route",
        "served",
        relation=sql.Literal(version.relation),
        slot=sql.Literal(version.slot),
        window=sql.Literal(window),
    )
    with translated(), conn.cursor(row_factory=tuple_row) as cursor:
        return {name: round(searches) for name, searches in cursor.execute(statement)}


def set_route(
    run: Runner,
    where: Address,
    percent: Decimal | None = None,
    *,
    add_keys: Sequence[str] = (),
    remove_keys: Sequence[str] = (),
    terms: Terms | None = None,
) -> dict[str, Any]:
    """Give the version a share of the keys (None: as it is), and keys by name. Returns what the database did.

    Raises GateError where it is to serve more than now and a gate fails, IllegalTransitionError for 100 percent, for
    the active version, and while another version is the candidate; then nothing has changed.
    """
    statement = files.query(
        "route",
        "set_route",
        function=roles.function(run, "set_route"),
        **where.literals(),
        **(terms or Terms()).literals(),
        percent=sql.Literal(percent),
        add_keys=sql.Literal(list(add_keys)),
        remove_keys=sql.Literal(list(remove_keys)),
    )
    with run.transaction():
        return decoded(one(run.run(statement))) or {}


def unroute(run: Runner, where: Address, reason: str | None = None, *, only: bool = False) -> dict[str, Any]:
    """Give every key back to the active version. `only`: where the candidate is the version that `where` names."""
    names = where.literals() | {
        "version": sql.Literal(where.version if only else None),
        "reason": sql.Literal(reason),
        "function": roles.function(run, "unroute"),
    }
    with run.transaction():
        return decoded(one(run.run(files.query("route", "unroute", **names)))) or {}
