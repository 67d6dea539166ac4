"""Build a version's index after its backfill, CONCURRENTLY, and drop it the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from psycopg import sql

from pgvmig import sql as files
from pgvmig.adding import resolved
from pgvmig.address import Address, Table
from pgvmig.contract import Contract
from pgvmig.errors import ConflictError, NotFoundError, UsageError
from pgvmig.home import Home
from pgvmig.layouts import ddl
from pgvmig.names import fit, vector_column
from pgvmig.runner import Added, Runner, decoded, one

METHODS = ("hnsw", "ivfflat")
_OPCLASS = {"cosine": "cosine_ops", "l2": "l2_ops", "inner_product": "ip_ops", "l1": "l1_ops"}


def index_name(where: Address, version: Added | None, method: str) -> str:
    """Return the name of a version's index, the same in both layouts; an adopted column's has that column's name."""
    adopted = version is not None and version.adopted
    vector = version.home.vector if version and adopted else vector_column(where.slot, where.version)
    return fit(f"{where.table.name}_{vector}_{method}")


def build(
    run: Runner,
    where: Address,
    *,
    method: str = "hnsw",
    options: Mapping[str, Any] | None = None,
    early: bool = False,
    calm: Callable[[Table], None] | None = None,
) -> bool:
    """Build the index; an invalid one left by an interrupted build is dropped first. Returns whether it was missing.

    `calm` is called with the table that is read, outside any transaction, before the build: it may wait or raise.
    Raises GateError while more than a tenth of the rows has no vector, unless `early`.
    """
    if method not in METHODS:
        raise UsageError(f"method is {method!r}", next_step=f"use one of {', '.join(METHODS)}")
    where = resolved(run, where)
    version = _version(run, where)
    name = index_name(where, version, method)
    index = where.table.beside(name)
    if not run.offline and _is_valid(run, version.home, index):
        _validate(run, where, version)
        return False
    run.note(f"pgvmig: index {where.label}; without a lock on the table, and not inside a transaction")
    if not early:
        run.run(files.query("indexing", "require_backfilled", **where.literals()))
    with run.outside_transaction(), _without_timeouts(run):
        if calm is not None:
            calm(version.home.table)
        if not run.offline:
            run.run(files.query("indexing", "drop_index", index=index))
        run.run(
            files.query(
                "indexing",
                "create_index",
                index=name,
                table=version.home.table.identifier,
                method=sql.SQL(method),
                vector=version.home.vector,
                opclass=_opclass(run, version.contract),
                options=_with_options(options),
            )
        )
        run.run(files.query("indexing", "require_valid_index", index=sql.Literal(files.text(index))))
    _validate(run, where, version)
    return True


@contextmanager
def _without_timeouts(run: Runner) -> Iterator[None]:
    """Lift the session's timeouts for the block, and put back what they were."""
    before = run.run(files.query("indexing", "timeouts")) if not run.offline else []
    run.run(files.query("indexing", "no_timeouts"))
    try:
        yield
    finally:
        if before:
            values = {name: sql.Literal(value) for name, value in before[0].items()}
            run.run(files.query("indexing", "restore_timeouts", **values))
        else:
            run.run(files.query("indexing", "reset_lock_timeout"))
            run.run(files.query("indexing", "reset_statement_timeout"))


def drop(run: Runner, where: Address, *, method: str = "hnsw") -> None:
    """Drop the index that `build` built."""
    where = resolved(run, where)
    # a script of the way down has no revision that adds the version: then it has its column's usual name
    known = where in run.memory or not run.offline
    index = where.table.beside(index_name(where, _version(run, where) if known else None, method))
    with run.outside_transaction():
        run.run(files.query("indexing", "drop_index", index=index))


def drop_all(run: Runner, where: Address) -> int:
    """Drop every vector index on a column that pgvmig made, before the column goes. Returns the bytes freed."""
    if run.offline:
        drop(run, where)
        return 0
    indexes = run.run(files.query("indexing", "version_indexes", **where.literals()))
    # waits for whoever has the table open, without keeping anybody waiting: a timeout would leave an invalid index
    with run.outside_transaction(), _without_timeouts(run):
        for index in indexes:
            # regclass::text is quoted already, and qualified where the search_path needs it
            run.run(files.query("indexing", "drop_index", index=sql.SQL(index["name"])))
    return sum(index["bytes"] for index in indexes)


def _version(run: Runner, where: Address) -> Added:
    if run.offline:
        return _remembered(run, where)
    rows = run.run(files.query("adding", "version_facts", **where.literals()))
    if not rows:
        raise NotFoundError(f"there is no {where.label}", next_step="op.add_embedding() adds it")
    (row,) = rows
    home = Home(
        layout=row["layout"],
        table=Table(row["vector_table_schema"], row["vector_table_name"]),
        vector=row["vector_column"],
        version_id=row["version_id_column"],
        source_hash=row["source_hash_column"],
        embedded_at=row["embedded_at_column"],
    )
    return Added(Contract.of(decoded(row["definition"])), home, row["adopted"])


def _remembered(run: Runner, where: Address) -> Added:
    if where not in run.memory:
        raise UsageError(
            f"{where.label}: offline SQL knows a version only from the revision that adds it",
            next_step="begin the range with that revision: alembic upgrade <the one before it>:head --sql",
        )
    return run.memory[where]


def _is_valid(run: Runner, home: Home, index: sql.Identifier) -> bool:
    rows = run.run(
        files.query("indexing", "index_state", relation=home.table.relation, index=sql.Literal(files.text(index)))
    )
    if rows and not rows[0]["same_table"]:
        raise ConflictError(
            f"{files.text(index)} is an index of another table",
            hazard="It would be dropped as the remains of an interrupted build",
            next_step="rename it: ALTER INDEX ... RENAME TO ...",
        )
    return bool(rows) and rows[0]["valid"]


def _opclass(run: Runner, contract: Contract) -> sql.Identifier:
    schema = None if run.offline else one(run.run(sql.SQL("SELECT pgvmig.vector_schema()")))
    return ddl.type_name(schema, f"{contract.vector_type}_{_OPCLASS[contract.metric]}")


def _with_options(options: Mapping[str, Any] | None) -> sql.Composable:
    if not options:
        return sql.SQL("")
    settings = sql.SQL(", ").join(
        sql.SQL("{} = {}").format(sql.Identifier(key), sql.Literal(value)) for key, value in options.items()
    )
    return sql.SQL(" WITH ({})").format(settings)


def _validate(run: Runner, where: Address, version: Added) -> None:
    """The check was added NOT VALID; by now a scan finds nothing to object to and blocks nobody.

    An adopted column has none, because its rows had no provenance, and a table of vectors needs none.
    """
    check = ddl.check_name(where.table, version.home.vector)
    pending = not (version.adopted or version.home.layout == "table") and (
        run.offline
        or run.run(files.query("indexing", "has_check", relation=where.table.relation, check=sql.Literal(check)))
    )
    if pending:
        run.run(files.query("indexing", "validate_check", table=where.table.identifier, check=check))
