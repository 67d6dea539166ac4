"""Tables by the names that users and revisions give them, as the catalog has them."""

from __future__ import annotations

from pgvmig import sql as files
from pgvmig.address import Address, Table
from pgvmig.catalog.connection import translated
from pgvmig.catalog.session import Session, found_schema
from pgvmig.errors import NotFoundError
from pgvmig.names import Target, check_version
from pgvmig.runner import ConnectionRunner, Row, Runner


def located(run: Runner, target: str, version: str) -> Address:
    """Return the address of a version, there or not, of what the user named: of the first reading that is a table.

    Raises UsageError, NotFoundError.
    """
    check_version(version)
    for schema, name, slot in Target.parse(target).readings():
        table = _on_the_users_path(run, Table(schema, name))
        if rows := _facts(run, table):
            return Address(table=_named(rows[0]), version=version, slot=slot)
    raise NotFoundError(f"there is no table {target}", next_step="write [schema.]table[.slot], such as documents")


def _on_the_users_path(run: Runner, table: Table) -> Table:
    """Return the table with its schema, where our own session's search_path is not the one that finds it."""
    if table.schema is not None or not isinstance(run, ConnectionRunner) or not isinstance(run.connection, Session):
        return table
    with translated():
        return Table(found_schema(run.connection, table.relation), table.name)


def resolved(run: Runner, where: Address) -> Address:
    """Return the address with the schema in which the table was found; offline as it was given."""
    if run.offline:
        return where
    return Address(table=_named(facts_of(run, where.table)), version=where.version, slot=where.slot)


def facts_of(run: Runner, table: Table) -> Row:
    """Return what adding a version must know of a table. Raises NotFoundError."""
    rows = _facts(run, table)
    if not rows:
        raise NotFoundError(f"there is no table {files.text(table.identifier)}", next_step="check schema= and the name")
    return rows[0]


def _facts(run: Runner, table: Table) -> list[Row]:
    return run.run(files.query("adding", "table_facts", relation=table.relation))


def _named(row: Row) -> Table:
    return Table(row["table_schema"], row["table_name"])
