"""What the tables of other libraries are called, and which text their vectors are of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.rows import dict_row

from pgvmig import sql as files
from pgvmig.address import Address
from pgvmig.catalog.connection import translated
from pgvmig.catalog.keys import identifier
from pgvmig.errors import NotFoundError, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A library's table. `columns`: by which it is known; `by`: the column whose values may differ in model."""

    made_by: str
    columns: tuple[str, ...]
    input: str
    column: str = "embedding"
    table: str | None = None
    example: str = ""
    by: str | None = None


PRESETS: Mapping[str, Preset] = {
    "langchain": Preset(
        made_by="LangChain's PGVector",
        table="langchain_pg_embedding",
        # its key is id, in tables of older releases uuid
        columns=("collection_id", "embedding", "document", "cmetadata"),
        input="document",
        by="collection_id",
    ),
    "langchain-v2": Preset(
        made_by="LangChain's PGVectorStore",
        columns=("langchain_id", "content", "embedding"),
        input="content",
        example="documents",
    ),
    "llamaindex": Preset(
        made_by="LlamaIndex's PGVectorStore",
        columns=("id", "text", "metadata_", "node_id", "embedding"),
        # the text alone is not what was embedded, where nodes have metadata
        input="pgvmig.llamaindex_text(metadata_, text)",
        example="data_documents",
    ),
    "pgai": Preset(
        made_by="pgai's vectorizer",
        columns=("embedding_uuid", "chunk_seq", "chunk", "embedding"),
        input="chunk",
        example="documents_embedding_store",
    ),
}


@dataclass(frozen=True, slots=True)
class Found:
    """What a preset adds to what the user said, once the table is there: parts of the contract, names of groups."""

    contract: Mapping[str, Any] = field(default_factory=dict)
    called: Callable[[str], str] = str


def table(name: str | None, target: str | None) -> str:
    """Return the table that is meant. Raises UsageError when nobody says it."""
    if target is not None:
        return target
    preset = PRESETS[name] if name else None
    if preset and preset.table:
        return preset.table
    example = preset.example if preset else "documents"
    raise UsageError("which table holds the vectors?", next_step=f"pgvmig adopt {example} --version v1 ...")


def find(conn: psycopg.Connection[Any], name: str, where: Address, column: str) -> Found:
    """Return what the library has written down about its table. Raises NotFoundError for a table that is not its."""
    preset = PRESETS[name]
    with translated(), conn.cursor(row_factory=dict_row) as cursor:
        (row,) = cursor.execute(files.query("adding", "table_facts", relation=where.table.relation)).fetchall()
        expected = [column if known == preset.column else known for known in preset.columns]
        missing = [known for known in expected if known not in row["columns"]]
        if missing and name != "langchain-v2":  # there every name can be chosen
            raise NotFoundError(
                f"{where.table.name} has no column {', '.join(missing)}: {preset.made_by} did not make it",
                next_step="name the table that it made, or leave --preset out and say --input",
            )
        if name == "pgai":
            return Found(contract=_vectorizer(cursor, where))
        if name == "langchain":
            return Found(called=_collections(cursor, where))
    return Found()


def _vectorizer(cursor: psycopg.Cursor[Any], where: Address) -> dict[str, Any]:
    there = cursor.execute("SELECT to_regclass('ai.vectorizer') IS NOT NULL AS there").fetchone() or {}
    if not there["there"]:
        return {}
    given = {"table": where.table.name, "schema": where.table.schema}
    row = cursor.execute(files.query("adopt", "pgai_vectorizer"), given).fetchone()
    return {key: value for key, value in (row or {}).items() if value is not None}


def _collections(cursor: psycopg.Cursor[Any], where: Address) -> Callable[[str], str]:
    """Return how people call a collection; the table beside says it."""
    connection = cursor.connection
    collections = files.query(
        "adopt", "langchain_collection", collections=identifier(str(where.table.schema), "langchain_pg_collection")
    )

    def called(uuid: str) -> str:
        with connection.cursor() as asking:
            row = asking.execute(collections, {"uuid": uuid}).fetchone()
        return f"{row[0]!r} ({uuid})" if row else uuid

    return called
