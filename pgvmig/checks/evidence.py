"""What a check is given and what it answers; how answers are stored, so that a switch can ask for them.

Must not know what is measured, nor what a gate makes of stored evidence (sql/functions/54_evidence.sql).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

import psycopg
from psycopg import sql
from psycopg.rows import dict_row, tuple_row
from psycopg.types.json import Jsonb
from psycopg.types.string import TextLoader

from pgvmig import lengths
from pgvmig import sql as files
from pgvmig.catalog.keys import Keys, identifier, objects_of
from pgvmig.catalog.versions import Version
from pgvmig.checks.gates import GateResult

# What is being looked at, how much of it is done, and of how much.
# What PostgreSQL reads as it is written.
_PLAIN = re.compile("[a-z_][a-z0-9_]*")

Report: TypeAlias = Callable[[str, int, int], None]

# Pages that a sample reads for each row that it wants; some have no vector.
_PAGES_A_ROW = 4
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How much is looked at: rows that are embedded again, searches compared with exact ones; and the limits."""

    sample: int = 32
    min_cosine: float = 0.99
    queries: int = 50
    min_recall: float = 0.95


@dataclass(frozen=True, slots=True)
class Task:
    """What a check is given."""

    conn: psycopg.Connection[Any]
    version: Version
    options: Options = field(default_factory=Options)
    report: Report = lambda _what, _done, _total: None

    @contextmanager
    def looking(self, **factory: Any) -> Iterator[psycopg.Cursor[Any]]:
        """Run the block in a transaction of its own that only reads, short ones following each other."""
        with self.conn.transaction(), self.conn.cursor(**({"row_factory": dict_row} | factory)) as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            cursor.execute(files.query("verify", "settings"))
            yield cursor

    def query(self, name: str, *, sampled: bool = False) -> sql.Composed:
        """Return a query of verify.sql about this version's rows and vectors."""
        version, keys = self.version, Keys.of(self.version)
        alias = identifier("e" if version.layout == "table" else "d")
        columns = {
            "vector": identifier(version.vector_column),
            "source_hash": identifier(version.source_hash_column),
            "vector_schema": identifier(version.vector_schema),
            "norm": identifier(lengths.norm_function(version.contract.vector_type)),
        }
        parts = keys.parts() | objects_of(version) | columns
        sample = files.query("verify", "sample") if sampled else sql.SQL("")
        rows = files.query("verify", f"{version.layout}_rows", sample=sample, **parts)
        keys_of_rows = sql.SQL(", ").join(identifier("d", column) for column in version.key_columns)
        return files.query("verify", name, alias=alias, rows=rows, keys=keys_of_rows, **parts)

    def pages(self) -> int:
        """Return how many pages the vectors are on."""
        with self.looking(row_factory=tuple_row) as cursor:
            cursor.execute(files.query("verify", "pages"), {"version_id": self.version.version_id})
            (pages,) = cursor.fetchone() or (0,)
        return int(pages)

    def sample(self, name: str, count: int) -> list[tuple[Any, ...]]:
        """Return up to so many random rows of one of the queries about samples."""
        percent = 100.0 * _PAGES_A_ROW * count / max(self.pages(), 1)
        while True:
            given = {"percent": min(percent, 100.0), "limit": count, "adopted": self.version.adopted}
            with self.looking(row_factory=tuple_row) as cursor:
                keys_as_text(cursor)
                rows = cursor.execute(self.query(name, sampled=True), given).fetchall()
            if len(rows) >= count or percent >= 100:  # noqa: PLR2004
                return rows
            percent *= 10


def keys_as_text(cursor: psycopg.Cursor[Any]) -> None:
    """Have a cursor return times as PostgreSQL writes them: Python has no infinity among them, and nothing BC."""
    for name in ("date", "timestamp", "timestamptz", "time", "timetz", "interval"):
        cursor.adapters.register_loader(name, TextLoader)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a check found, as in GateResult. Not `conclusive`: it was not measured, so it is evidence of nothing."""

    passed: bool
    found: str
    wanted: str
    next: str | None
    measured: dict[str, Any]
    conclusive: bool = True

    def result(self, gate: str) -> GateResult:
        """Return it as the gate's answer."""
        return GateResult(gate, self.passed, self.found, self.wanted, self.next, self.measured)


@dataclass(frozen=True, slots=True)
class About:
    """What evidence of a gate will be about, and since when."""

    gate: str
    what: Mapping[str, Any]
    at: datetime


def about(task: Task, gates: Sequence[str]) -> list[About]:
    """Return what is there before it is measured."""
    with task.looking(row_factory=tuple_row) as cursor:
        cursor.execute(files.query("verify", "about"), {"gates": list(gates), "version_id": task.version.version_id})
        return [About(*row) for row in cursor]


def record(task: Task, before: Sequence[About], findings: Mapping[str, Finding]) -> None:
    """Store what was found, all of it or nothing; what was not conclusive is not stored."""
    with task.conn.transaction():
        for subject in before:
            found = findings[subject.gate]
            if found.conclusive:
                task.conn.execute(files.query("verify", "record"), _row(task.version, subject, found))


def listed(keys: Sequence[str]) -> str:
    """Return a few keys for a message, in brackets."""
    more = ", …" if len(keys) > _SHOWN else ""
    return f"({'; '.join(keys[:_SHOWN])}{more})"


def _row(version: Version, subject: About, found: Finding) -> dict[str, Any]:
    return {
        "version_id": version.version_id,
        "gate": subject.gate,
        "passed": found.passed,
        "found": found.found,
        "wanted": found.wanted,
        "next": found.next,
        "measured": Jsonb(found.measured),
        "about": Jsonb(subject.what),
        "measured_at": subject.at,
    }


def requeue(version: Version) -> str:
    """Return how rows that the worker does not know of get their vectors, after pgvmig.next_queue() in SQL."""
    table = (version.table_schema, version.table_name)[version.table_schema == "public" :]
    names = [name if _PLAIN.fullmatch(name) else sql.Identifier(name).as_string(None) for name in table]
    given = [".".join(names), version.version, *([version.slot] if version.slot != "embedding" else [])]
    arguments = ", ".join(sql.Literal(text).as_string(None).strip() for text in given)
    return f"SELECT pgvmig.queue_outdated({arguments}), then pgvmig backfill {version.name}"
