"""Cut over, roll back, retire. The database does it in one transaction (sql/functions/60_switch.sql); this asks it to.

Must not know about Alembic or the command line: both call it.
"""

from __future__ import annotations

from typing import Any

from psycopg import sql

from pgvmig import indexing
from pgvmig import sql as files
from pgvmig.address import Address
from pgvmig.runner import Runner, decoded, one
from pgvmig.terms import Terms


def cut_over(run: Runner, where: Address, terms: Terms | None = None) -> dict[str, Any]:
    """Make the version the active one. Returns what the database measured; `changed` is false when it was active.

    Raises GateError, LockNotAvailableError, IllegalTransitionError; then nothing has changed.
    """
    run.note(
        f"pgvmig: cut {where.label} over. Checks the gates, then in this transaction makes the current view\n"
        f"the definition of the version's view (CREATE OR REPLACE VIEW) and {where.version} the active version."
    )
    return _call(run, "cut_over", where, terms or Terms())


def roll_back(run: Runner, where: Address, terms: Terms | None = None) -> dict[str, Any]:
    """Leave the version for the one that was active before it. Returns and raises as `cut_over`."""
    run.note(f"pgvmig: roll back from {where.label} to the version that was active before, by the same steps.")
    return _call(run, "roll_back", where, terms or Terms())


def retire(run: Runner, where: Address, reason: str | None = None) -> dict[str, Any]:
    """Drop the version's indexes, view, triggers and the columns that pgvmig made; its contract and events stay.

    Raises IllegalTransitionError while it is active or something depends on its view.
    """
    run.note(f"pgvmig: retire {where.label}: its index, then its view, triggers and columns. Not to be undone.")
    run.run(files.query("switch", "require_retirable", **where.literals()))
    freed = sql.Literal(indexing.drop_all(run, where))
    with run.transaction():
        rows = run.run(
            files.query("switch", "retire", **where.literals(), reason=sql.Literal(reason), index_bytes=freed)
        )
    return decoded(one(rows)) or {}


def _call(run: Runner, verb: str, where: Address, terms: Terms) -> dict[str, Any]:
    with run.transaction():
        return decoded(one(run.run(files.query("switch", verb, **where.literals(), **terms.literals())))) or {}
