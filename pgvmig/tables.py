"""Which tables can have vectors: what is refused, and why. Knows a table's facts, which others ask for."""

from __future__ import annotations

import warnings

from pgvmig import sql as files
from pgvmig.address import Address
from pgvmig.errors import ConflictError, NotFoundError
from pgvmig.runner import Row

# Earlier releases lost or corrupted HNSW tuples under vacuum; see pgvector's changelog from 0.8.1 to 0.8.4.
PGVECTOR_WANTED = (0, 8, 4)

# What is no table of the user's, by relkind: what it is, why its rows cannot have vectors, and what to do.
_NO_TABLES = {
    "v": ("a view", "Its rows are other tables'", "name the table that it reads"),
    "m": ("a materialised view", "REFRESH replaces its rows and fires no trigger", "name the table that it reads"),
    "f": (
        "a foreign table",
        "Its rows are another server's, where they change unseen",
        "use pgvmig in the database that has the rows, or copy them into a table here",
    ),
}


def check(row: Row, where: Address) -> None:
    """Raise ConflictError or NotFoundError for what is no table or no logged one, and warn of an old pgvector."""
    name = where.table.name
    _refuse_no_table(row, name)
    if row["partition_of"]:
        raise ConflictError(
            f"{name} is a partition of {row['partition_of']}",
            hazard="Searches through the whole table would find vectors in one partition and none in the others",
            next_step=f"name {row['partition_of']}: its partitions, and those to come, are taken with it",
        )
    if row["inherits"]:
        raise ConflictError(
            f"{name} inherits, or is inherited from",
            hazard="Triggers and indexes are not inherited, rows are: those of the children would change unseen",
            next_step="use pgvmig on a table of its own",
        )
    if row["unlogged"]:
        raise ConflictError(
            f"{row['unlogged'] if row['relkind'] == 'p' else name} is unlogged",
            hazard="A crash empties it, and its standbys never see it",
            next_step=f"ALTER TABLE {row['unlogged']} SET LOGGED",
        )
    version = tuple(int(part) for part in (row["vector_version"] or "0").split(".")[:3])
    if version < PGVECTOR_WANTED:
        warnings.warn(
            f"pgvector {row['vector_version']} is installed; releases before 0.8.4 can corrupt an HNSW index under "
            "vacuum. Next: install a newer one, then ALTER EXTENSION vector UPDATE",
            stacklevel=2,
        )


def require_room_for_columns(row: Row, where: Address) -> None:
    """Raise ConflictError for a table to which no column can be added."""
    if row["of_type"]:
        raise ConflictError(
            f"{where.table.name} has its columns from type {row['of_type']} (CREATE TABLE ... OF)",
            hazard="PostgreSQL adds no column to such a table",
            next_step=f'use layout="table", or ALTER TABLE {files.text(where.table.identifier)} NOT OF',
        )


def _refuse_no_table(row: Row, name: str) -> None:
    schema = row["table_schema"]
    if schema in ("pg_catalog", "information_schema", "pgvmig") or schema.startswith("pg_toast"):
        owner = "pgvmig" if schema == "pgvmig" else "PostgreSQL"
        raise ConflictError(f"{schema}.{name} is {owner}'s own", next_step="name a table of your application's")
    if row["relkind"] not in ("r", "p"):
        kind, hazard, instead = _NO_TABLES.get(row["relkind"], ("not a table", None, "name a table"))
        raise NotFoundError(f"{name} is {kind}", hazard=hazard, next_step=instead)
    if row["relpersistence"] == "t":
        raise ConflictError(
            f"{name} is temporary",
            hazard="It ends with this session, and no worker sees it",
            next_step="use a permanent table",
        )
