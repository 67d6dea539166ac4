"""Look at a column, keep what was found, and take it as a version: `pgvmig adopt`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from pgvmig import adding
from pgvmig import sql as files
from pgvmig.adoptable import Check
from pgvmig.adopting import looks
from pgvmig.adopting.looks import Options, Report
from pgvmig.adopting.subject import Subject
from pgvmig.catalog.connection import translated
from pgvmig.errors import PublishedTableError
from pgvmig.runner import ConnectionRunner


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What does not keep the column from being adopted, and will matter later."""

    found: str
    hazard: str
    next: str


def look(
    subject: Subject,
    options: Options,
    reason: str | None = None,
    *,
    report: Report = lambda _what, _done, _total: None,
    called: Callable[[str], str] = str,
) -> list[Check]:
    """Run every check and keep what they found, for adoption now or by a revision."""
    began = _now(subject)
    checks = list(looks.look(subject, options, report, called))
    _keep(subject, checks, reason, began)
    return checks


def take(subject: Subject, writer: str, *, prepared: bool) -> bool:
    """Adopt the column. Returns whether anything changed.

    Raises as `adding.adopt`, and GateError after a look that failed.
    """
    run = ConnectionRunner(subject.conn, "cli")
    try:
        with run.transaction():
            return adding.adopt(run, subject.where, subject.column, subject.contract, writer=writer, prepared=prepared)
    except PublishedTableError as error:
        # the database names the revision's option
        prepare = (error.next_step or "").partition(", then alembic")[0]
        raise PublishedTableError(
            error.found, hazard=error.hazard, next_step=f"{prepare}, then add --published"
        ) from None


def notes(subject: Subject, checks: Sequence[Check], writer: str) -> list[Note]:
    """Say what to think of before the next version."""
    found = [*_without_vectors(subject, writer)]
    label = subject.where.label.removesuffix(f" {subject.where.version}")
    if subject.not_null:
        found.append(
            Note(
                found=f"{subject.name} is NOT NULL",
                hazard="After the next cutover the service may write rows without these vectors, and a row whose text "
                "becomes empty loses its vector: both would be refused",
                next=f"{_drop_not_null(subject)} before the cutover to the next version",
            )
        )
    if not subject.has_dimensions:
        found.append(
            Note(
                found=f"{subject.name} takes vectors of any dimensions",
                hazard="No index can be built on it, and nothing keeps vectors of other dimensions out",
                next=f"leave {subject.where.version} without an index, as it is: the next version has a column with "
                "dimensions; docs/adopt.md says how to give it some",
            )
        )
    index = next(check for check in checks if check.check == "index").measured
    found += [
        Note(
            found=f"index {name} is invalid",
            hazard="An interrupted build left it: writes pay for it and no search uses it",
            next=f"DROP INDEX CONCURRENTLY {name}",
        )
        for name in index["invalid"]
    ]
    if not index["indexes"] and subject.has_dimensions:
        found.append(
            Note(
                found=f"{subject.name} has no index",
                hazard="Every search reads every vector, as it does already",
                next=f"op.index_embedding({label!r}, {subject.where.version!r}), unless the table is small",
            )
        )
    return found


def _drop_not_null(subject: Subject) -> str:
    statement = sql.SQL("ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL")
    return files.text(statement.format(subject.where.table.identifier, sql.Identifier(subject.column)))


def _without_vectors(subject: Subject, writer: str) -> list[Note]:
    with subject.looking() as cursor:
        row = cursor.execute(subject.query("without_vectors"), {}).fetchone() or {"count": 0}
    if not row["count"]:
        return []
    who = (
        f"pgvmig backfill {subject.where.label} embeds them"
        if writer == "worker"
        else "its application writes them; --writer worker lets pgvmig do it"
    )
    return [Note(found=f"{row['count']:,} rows have no vector", hazard="No search finds them", next=who)]


def _now(subject: Subject) -> datetime:
    (now,) = subject.conn.execute("SELECT clock_timestamp()").fetchone() or (None,)
    return now  # type: ignore[return-value]


def _keep(subject: Subject, checks: Sequence[Check], reason: str | None, began: datetime) -> None:
    given: dict[str, Any] = {
        "relation": files.text(subject.where.table.identifier),
        "column": subject.column,
        "fingerprint": subject.contract.fingerprint,
        "passed": not any(check.blocks for check in checks),
        "checks": Jsonb([asdict(check) for check in checks]),
        "reason": reason,
        "measured_at": began,
    }
    with translated():
        subject.conn.execute(files.query("adopt", "record_look"), given)
