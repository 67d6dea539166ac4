"""Shortcuts for tests: the control schema and versions on a psycopg connection, by the code that revisions run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
from psycopg import sql

from pgvmig import adding, retiring, switch
from pgvmig.address import Address, address
from pgvmig.catalog import schema, versions
from pgvmig.catalog.versions import Version
from pgvmig.runner import ConnectionRunner
from pgvmig.terms import Terms

CONTRACT: dict[str, Any] = {
    "provider": "new",
    "model": "hash",
    "model_version": "1",
    "dimensions": 8,
    "input": "body",
}

# Where versions that tests add have their vectors, unless they say it; the mark `layouts` runs a test with both.
LAYOUT = "column"


def install(connection: psycopg.Connection[Any]) -> None:
    """Install the control schema, unless the database was made with it."""
    run = ConnectionRunner(connection)
    if schema.installed(run) is None:
        with connection.transaction():
            schema.install(run)


def add_version(
    connection: psycopg.Connection[Any],
    table: str,
    version: str,
    contract: dict[str, Any] | None = None,
    **options: Any,
) -> Version:
    """Add a version; what `contract` leaves out is CONTRACT's. Options: schema, slot, layout, columns, key."""
    where = address(table, version, options.pop("schema", None), options.pop("slot", "embedding"))
    with connection.transaction():
        adding.add(ConnectionRunner(connection), where, CONTRACT | (contract or {}), **({"layout": LAYOUT} | options))
    return find(connection, where)


def adopt_version(
    connection: psycopg.Connection[Any], table: str, version: str, column: str, contract: dict[str, Any] | None = None
) -> Version:
    """Adopt a column's vectors as a version."""
    where = address(table, version)
    with connection.transaction():
        adding.adopt(ConnectionRunner(connection), where, column, CONTRACT | (contract or {}))
    return find(connection, where)


def find(connection: psycopg.Connection[Any], where: Address) -> Version:
    """Return the version as the catalog has it."""
    (found,) = [
        v
        for v in versions.all_versions(connection)
        if (v.table_name, v.slot, v.version) == (where.table.name, where.slot, where.version)
        and where.table.schema in (None, v.table_schema)
    ]
    return found


def stale(connection: psycopg.Connection[Any], version: Version) -> list[Any]:
    """Return the keys that wait for the worker, oldest entry first; several columns make a tuple.

    In the table layout deleted rows without a vector may be among them, for the worker to find them gone; not here.
    """
    return _keys(connection, version, "stale", "entry")


def outcomes(connection: psycopg.Connection[Any], version: Version) -> list[Any]:
    """Return the keys of rows that have a recorded outcome."""
    return _keys(connection, version, "outcome", "recorded_at")


def _keys(connection: psycopg.Connection[Any], version: Version, suffix: str, order: str) -> list[Any]:
    there = " WHERE EXISTS (SELECT FROM {table} AS d WHERE {same_key})" if version.layout == "table" else ""
    statement = sql.SQL(f"SELECT {{keys}} FROM {{queue}} AS e{there} ORDER BY {{order}}").format(
        **places(version),
        queue=sql.Identifier("pgvmig", version.object(suffix)),
        order=sql.Identifier(order),
    )
    rows = connection.execute(statement).fetchall()
    return [row[0] if len(row) == 1 else row for row in rows]


def forget_stale(connection: psycopg.Connection[Any], version: Version) -> None:
    """Empty the queue, as if the worker had worked it off."""
    connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier("pgvmig", version.object("stale"))))


def record_outcome(connection: psycopg.Connection[Any], version: Version, key: Any, kind: str, text: str = "") -> None:
    """Record what the worker records when a row gets no vector."""
    statement = sql.SQL(
        "INSERT INTO {queue} ({key}, kind, source_hash, error) "
        "VALUES ({value}, {kind}, pgvmig.source_hash({text}), 'as a test')"
    )
    connection.execute(
        statement.format(
            queue=sql.Identifier("pgvmig", version.object("outcome")),
            key=sql.Identifier(version.queue_columns[0]),
            value=sql.Literal(key),
            kind=sql.Literal(kind),
            text=sql.Literal(text),
        )
    )


def embed(connection: psycopg.Connection[Any], version: Version, where: str = "true") -> int:
    """Write a vector and its provenance for every such row that has none, as the worker would. Returns how many."""
    ones = "[" + ",".join(["1"] * version.contract.dimensions) + "]"
    statement = {
        "column": "UPDATE {table} AS d SET {vector} = {ones}, {version_id} = {id}, {embedded_at} = now(), "
        "{source_hash} = pgvmig.source_hash({input}(d.*)) WHERE {vector} IS NULL AND ({where})",
        "table": "INSERT INTO {vectors} ({keys}, {vector}, {version_id}, {embedded_at}, {source_hash}) "
        "SELECT {row_keys}, {ones}, {id}, now(), pgvmig.source_hash({input}(d.*)) FROM {table} AS d WHERE ({where}) "
        "ON CONFLICT DO NOTHING",
    }[version.layout]
    rows = connection.execute(
        sql.SQL(statement).format(
            **places(version),
            ones=sql.Literal(ones),
            id=sql.Literal(version.version_id),
            where=sql.SQL(where),
        )
    )
    forget_stale(connection, version)
    if where == "true":
        connection.execute(
            "UPDATE pgvmig.backfill SET walked_at = clock_timestamp() WHERE version_id = %s", [version.version_id]
        )
    return rows.rowcount


# The gates of which `pgvmig verify` stores what it found.
EVIDENCE = ["hashes", "health", "recall", "identity", "visibility"]


def prove(connection: psycopg.Connection[Any], version: Version, gates: list[str] | None = None) -> None:
    """Store evidence that passes, as `pgvmig verify` does: about the version's index and settings as they are now."""
    connection.execute(
        "SELECT pgvmig.record_evidence(v.version_id, g, true, 'as a test', 'a test', NULL, '{}', "
        "pgvmig.evidence_about(v, g), clock_timestamp()) FROM pgvmig.version v, unnest(%s::text[]) AS g "
        "WHERE v.version_id = %s",
        (EVIDENCE if gates is None else gates, version.version_id),
    )


def cut_over(run: ConnectionRunner, where: Address, terms: Terms | None = None) -> dict[str, Any]:
    """Cut over with evidence that is fresh and passes; the other gates are asked as ever."""
    for version in versions.all_versions(run.connection):
        if (version.table_name, version.slot, version.version) == (where.table.name, where.slot, where.version):
            prove(run.connection, version)
    return switch.cut_over(run, where, terms)


def retire(run: ConnectionRunner, where: Address, reason: str | None = None) -> dict[str, Any]:
    """Retire at once, without a soak: what the other gates are about is not asked either."""
    return retiring.retire(run, where, retiring.RetireTerms(soak=timedelta(0), reason=reason))


def places(version: Version) -> dict[str, sql.Composable]:
    """Return where a version's rows, vectors and provenance are, for a statement that calls the row d."""
    return {
        "table": sql.Identifier(version.table_schema, version.table_name),
        "vectors": sql.Identifier(version.vector_table_schema, version.vector_table_name),
        "vector": sql.Identifier(version.vector_column),
        "version_id": sql.Identifier(version.version_id_column),
        "embedded_at": sql.Identifier(version.embedded_at_column),
        "source_hash": sql.Identifier(version.source_hash_column),
        "input": sql.Identifier("pgvmig", version.object("input")),
        "keys": sql.SQL(", ").join(map(sql.Identifier, version.queue_columns)),
        "row_keys": sql.SQL(", ").join(sql.Identifier("d", key) for key in version.key_columns),
        "same_key": sql.SQL(" AND ").join(
            sql.SQL("e.{} = d.{}").format(sql.Identifier(queue), sql.Identifier(key))
            for queue, key in zip(version.queue_columns, version.key_columns, strict=True)
        ),
    }
