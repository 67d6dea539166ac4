"""The roles pgvmig_reader, _worker, _operator and _admin, and what they may do in this database.

The database creates, grants and refuses (sql/functions/90_rights.sql and on); this asks it to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg import sql

from pgvmig import sql as files
from pgvmig.runner import Runner, decoded, one

PREFIX = "pgvmig"


@dataclass(frozen=True, slots=True)
class Right:
    """One thing that a role may do: a privilege on a relation, all of it or these columns, or EXECUTE on a function."""

    duty: str
    role: str
    privilege: str
    object: str
    columns: list[str] | None


def create(
    run: Runner, prefix: str = PREFIX, *, owner: str | None = None, allow_superuser: bool = False
) -> dict[str, Any]:
    """Create the roles that are missing and grant what is missing; {created, existed, warnings}, nothing offline.

    `owner` is a role that the control schema is given to first. Raises TooMightyError where operators would act with a
    superuser's rights and `allow_superuser` is not given.
    """
    run.note(
        f"pgvmig: roles {prefix}_reader, _worker, _operator and _admin, where the cluster does not have them yet, and\n"
        "their rights in this database (pgvmig.version_rights, pgvmig.control_rights). Versions that are added later\n"
        "grant theirs by themselves."
    )
    statement = files.query(
        "roles",
        "create",
        prefix=sql.Literal(prefix),
        owner=sql.Literal(owner),
        allow_superuser=sql.Literal(allow_superuser),
    )
    with run.transaction():
        return decoded(one(run.run(statement))) or {}


def drop(run: Runner) -> dict[str, Any]:
    """Take away what was granted in this database, and drop the roles that nothing else needs: {dropped, kept}."""
    run.note("pgvmig: take the roles' rights in this database away; a role that has members or other rights stays.")
    with run.transaction():
        return decoded(one(run.run(files.query("roles", "drop")))) or {}


def rights(run: Runner) -> list[Right]:
    """Return what the roles may do in this database, by role."""
    return [Right(**row) for row in run.run(files.query("roles", "rights"))]


def function(run: Runner, verb: str) -> sql.Identifier:
    """Return the function of a verb: where we have no right of our own, the one that lends an operator the owner's."""
    return files.qualified("pgvmig", f"operator_{verb}" if lends(run, verb) else verb)


def lends(run: Runner, verb: str) -> bool:
    """Whether we may do that only with the rights that operators are lent."""
    return not run.offline and bool(one(run.run(files.query("roles", "lends", verb=sql.Literal(verb)))))
