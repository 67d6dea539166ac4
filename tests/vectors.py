"""Vectors written with plain SQL, and switches without gates: for tests of what is read, not of how it got there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from lifecycle import EVIDENCE, places
from psycopg import sql

from pgvmig.catalog.versions import Version

# All gates but those about triggers, rights and provenance.
SKIPPED = ["coverage", "freshness", "failed", "index", "way_back", *EVIDENCE]


def literal(vector: Sequence[float]) -> str:
    """Return the vector as pgvector reads it."""
    return "[" + ",".join(repr(float(component)) for component in vector) + "]"


def write(connection: psycopg.Connection[Any], version: Version, vectors: Mapping[Any, Sequence[float]]) -> None:
    """Write vectors by key (of one column), with the provenance that they must have."""
    names = {**places(version), "key": sql.Identifier(version.key_columns[0])}
    # psycopg takes a per cent sign inside a name for a parameter's
    doubled = {part: sql.SQL(name.as_string(None).replace("%", "%%")) for part, name in names.items()}
    statement = sql.SQL(
        {
            "column": "UPDATE {table} AS d SET {vector} = %s, {version_id} = %s, {embedded_at} = now(), "
            "{source_hash} = pgvmig.source_hash({input}(d.*)) WHERE {key} = %s",
            "table": "INSERT INTO {vectors} ({keys}, {vector}, {version_id}, {embedded_at}, {source_hash}) "
            "SELECT {row_keys}, %s, %s, now(), pgvmig.source_hash({input}(d.*)) FROM {table} AS d WHERE {key} = %s "
            "ON CONFLICT ({keys}) DO UPDATE SET ({vector}, {embedded_at}, {source_hash}) = "
            "(excluded.{vector}, excluded.{embedded_at}, excluded.{source_hash})",
        }[version.layout]
    ).format(**doubled)
    with connection.cursor() as cursor:
        cursor.executemany(statement, [(literal(vector), version.version_id, key) for key, vector in vectors.items()])


def cut_over(connection: psycopg.Connection[Any], version: Version) -> None:
    """Make the version the active one, whatever the gates say."""
    connection.execute(
        "SELECT pgvmig.cut_over(%s::oid, %s, %s, skip => %s, reason => 'a test')",
        (version.relation, version.version, version.slot, SKIPPED),
    )


def roll_back(connection: psycopg.Connection[Any], version: Version) -> None:
    """Leave the version for the one before it, whatever the gates say."""
    connection.execute(
        "SELECT pgvmig.roll_back(%s::oid, %s, %s, skip => %s, reason => 'a test')",
        (version.relation, version.version, version.slot, SKIPPED),
    )
