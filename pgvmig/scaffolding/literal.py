"""A version as operations with literals, rendered as autogenerate renders them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from alembic.autogenerate import render_python_code
from alembic.operations import MigrateOperation
from alembic.operations.ops import UpgradeOps
from psycopg import sql

from pgvmig import sql as files
from pgvmig.alembic_plugin import ops
from pgvmig.catalog.versions import Version
from pgvmig.contract import Contract
from pgvmig.runner import ConnectionRunner


def added_again(conn: psycopg.Connection[Any], version: Version, schema: str | None) -> list[MigrateOperation]:
    """Return the operations that add the version again, empty, with the index that was asked for."""
    query = files.query("scaffold", "version_facts", version_id=sql.Literal(version.version_id))
    (row,) = ConnectionRunner(conn).run(query)
    add = ops.AddEmbeddingOp(
        contract=_without_defaults(version.contract),
        layout=version.layout,
        columns=_columns(row["columns"], version.slot),
        key=row["key"],
        search=row["search"] or None,
        **named(version, schema),
    )
    plan = row["index_plan"]
    if plan is None:
        return [add]
    index = ops.IndexEmbeddingOp(
        method=plan["method"],
        options=plan.get("options") or None,
        quantize=plan.get("quantize"),
        after_backfill=True,
        **named(version, schema),
    )
    return [add, index]


def named(version: Version, schema: str | None) -> dict[str, Any]:
    """Return the arguments that name the version in an operation."""
    return {"table": version.table_name, "version": version.version, "schema": schema, "slot": version.slot}


def rendered(operations: Sequence[MigrateOperation]) -> str:
    """Return the operations as code, as a revision has it."""
    code = render_python_code(UpgradeOps(ops=[*operations]))
    return "\n".join(line.removeprefix("    ") for line in code.splitlines() if "# ###" not in line)


def _columns(shown: list[str], slot: str) -> list[str]:
    """Return the columns to name; the slot's own is among them only where the vector does not stand at the end."""
    return shown[:-1] if shown[-1] == slot else shown


def _without_defaults(contract: Contract) -> dict[str, Any]:
    plain = Contract(model="", model_version="", dimensions=0, input="")
    return {name: value for name, value, _ in contract.diff(plain)}
