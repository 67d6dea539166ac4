"""Versions as the control schema has them: found by name, read as frozen data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import class_row

from pgvmig import sql
from pgvmig.contract import Contract
from pgvmig.errors import NotFoundError, UsageError
from pgvmig.lifecycle import State
from pgvmig.names import Target, check_version, fit, label


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One contract on one table and slot: a row of `pgvmig.version` with its slot and contract.

    `vector_table_*` is where its vectors are: the table itself in the column layout, a table beside it in the other.
    `vector_schema` is where pgvector's types are. `text_columns` are the columns that the input reads, where we may not
    read the whole row. `shape` is what statements about its rows depend on: when it is another, they are to be written
    anew. Retired, a version has no such table of its own any more.
    """

    version_id: int
    relation: int
    table_schema: str
    table_name: str
    slot: str
    version: str
    state: str
    writer: str
    adopted: bool
    layout: str
    definition: dict[str, Any]
    vector_schema: str
    vector_table_schema: str
    vector_table_name: str
    vector_column: str
    version_id_column: str
    source_hash_column: str
    embedded_at_column: str
    object_name: str
    view_schema: str | None
    view_name: str | None
    key_columns: list[str]
    key_types: list[str]
    key_operators: list[str]
    queue_columns: list[str]
    activated_from: int | None
    created_at: datetime
    state_changed_at: datetime
    unfinished: bool
    text_columns: list[str] | None = None
    shape: str = ""

    @property
    def contract(self) -> Contract:
        """The frozen contract."""
        return Contract.of(self.definition)

    @property
    def label(self) -> str:
        """How messages and commands name the target: `documents`, `app.documents.title`."""
        return label(self.table_name, self.slot, self.table_schema)

    @property
    def name(self) -> str:
        """Target and version: `documents v2`."""
        return f"{self.label} {self.version}"

    @property
    def captured(self) -> bool:
        """Whether its vectors follow the text."""
        return self.state != State.RETIRED

    def object(self, suffix: str) -> str:
        """Return the name, in schema `pgvmig`, of the version's own `stale`, `outcome` table or `input` function."""
        return fit(f"{self.object_name}_{suffix}")


def all_versions(conn: psycopg.Connection[Any]) -> list[Version]:
    """Return every version, retired ones included, tables in the order in which they came."""
    with conn.cursor(row_factory=class_row(Version)) as cursor:
        return cursor.execute(sql.query("versions", "all_versions")).fetchall()


def select(conn: psycopg.Connection[Any], target: str | None = None, version: str | None = None) -> list[Version]:
    """Return the versions that the user named: of all targets, of one, or exactly one.

    Raises UsageError for a name that cannot be one, NotFoundError for one that is not there.
    """
    versions = all_versions(conn)
    if target is None:
        if version is not None:
            raise UsageError(f"version {version} of which table?", next_step=f"pgvmig ... TARGET {version}")
        return versions
    found = of_target(versions, target)
    if version is None:
        return found
    check_version(version)
    named = [v for v in found if v.version == version]
    if not named:
        raise NotFoundError(
            f"{found[0].label} has no version {version}",
            next_step=f"use one of {', '.join(v.version for v in found)}, or add it with op.add_embedding()",
        )
    return named


def find(conn: psycopg.Connection[Any], target: str, version: str) -> Version:
    """Return exactly one version. Raises as `select`."""
    return select(conn, target, version)[0]


def of_target(versions: list[Version], target: str) -> list[Version]:
    """Return the versions of one target; the reading of `a.b` is the one that exists."""
    readings = Target.parse(target).readings()
    for schema, table, slot in readings:
        found = [v for v in versions if v.table_name == table and v.slot == slot and schema in (None, v.table_schema)]
        schemas = {v.table_schema for v in found}
        if schema is None and len(schemas) > 1:
            if "public" not in schemas:
                raise UsageError(
                    f"{target!r} is in the schemas {', '.join(sorted(schemas))}",
                    next_step=f"name one: {min(schemas)}.{target}",
                )
            found = [v for v in found if v.table_schema == "public"]
        if found:
            return found
    known = sorted({v.label for v in versions})
    raise NotFoundError(
        f"pgvmig has no versions of {target}",
        next_step=f"use one of {', '.join(known)}" if known else "add one with op.add_embedding() in a revision",
    )
