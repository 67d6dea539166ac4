"""Verbs that put a version on a table and take it off again: add, adopt, drop, release, refresh.

Written against `Runner`, so that a revision, its `--sql` script and the command line run the same statements.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from pgvmig import adoptable, hazards, tables, views
from pgvmig import home as homes
from pgvmig import sql as files
from pgvmig.address import Address, Table
from pgvmig.contract import Contract, render_diff
from pgvmig.errors import ConflictError, ContractError, NotFoundError, UsageError
from pgvmig.home import Column, Home
from pgvmig.layouts import ddl
from pgvmig.locating import facts_of, resolved
from pgvmig.names import DEFAULT_SLOT, fit, label, vector_column, view_name
from pgvmig.runner import Added, Row, Runner, decoded, one

LAYOUTS = ("column", "table")
_OTHER_SPACE = {
    "hazard": "The vectors there are of another space than the contract's",
    "next_step": "give the contract of the model that really wrote them",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What must be known of a table to write the statements: asked of the catalog, or given as literals."""

    columns: list[Column]
    key: list[Column]
    vector_schema: str | None


def add(
    run: Runner,
    where: Address,
    contract: Contract | Mapping[str, Any],
    *,
    layout: str = "column",
    columns: Sequence[str] | None = None,
    key: Sequence[str] | None = None,
    prepared: bool = False,
    search: Mapping[str, Any] | str | None = None,
) -> bool:
    """Add a version: room for vectors and provenance, view, capture. Returns whether anything changed.

    Layout `column` puts them beside the row, `table` into a table of the version's own. `columns` are the table's
    columns that the views show, `key` identifies a row; online both may be left out. `search`: see `set_search`.
    `prepared` is the word that subscribers of a published table have what is added.
    Raises ContractError, ConflictError, NotFoundError, InputExpressionError, LockNotAvailableError,
    PublishedTableError.
    """
    agreed = Contract.of(contract)
    if layout not in LAYOUTS:
        raise UsageError(f"layout is {layout!r}", next_step=f"use one of {', '.join(LAYOUTS)}")
    where, present = _locate(run, where, agreed)
    if present is not None and present["state"] != "retired":
        return False
    if present is not None and present["unfinished"]:
        raise ConflictError(
            f"{where.label} is being retired, and its columns or table are still there",
            next_step=f"pgvmig retire {where.label} goes on with it",
        )
    facts = _facts(run, where, columns, key, adopting=None, apart=layout == "table")
    beside = homes.beside(where.table, vector_column(where.slot, where.version))
    home = beside if layout == "column" else homes.apart(where, facts.key)
    run.note(f"pgvmig: add {where.label} ({agreed.model}, {agreed.dimensions} dimensions, {agreed.metric})")
    hazards.require_prepared_subscribers(run, where, layout, prepared=prepared)
    _lock(run, where.table, home)
    for statement in ddl.make_home(where.table, home, agreed, facts.vector_schema):
        run.run(statement)
    _create_view_and_record(run, where, agreed, facts, home, adopted=False, writer="worker")
    if search is not None:
        set_search(run, where, search)
    return True


def adopt(
    run: Runner,
    where: Address,
    column: str,
    contract: Contract | Mapping[str, Any],
    *,
    writer: str = "application",
    columns: Sequence[str] | None = None,
    key: Sequence[str] | None = None,
    prepared: bool = False,
) -> bool:
    """Take the vectors that a column already holds as a version, active from now on; no row is rewritten.

    Returns whether anything changed. Raises as `add`, and ContractError when the column is not what the contract says.
    """
    agreed = Contract.of(contract)
    if writer not in ("application", "worker"):
        raise UsageError(f"writer is {writer!r}", next_step="use application or worker")
    where = resolved(run, where)
    facts = examine(run, where, column, agreed, columns=columns, key=key)
    if facts is None:
        return False
    if not run.offline:
        _check_dimensions(run, where, column, agreed)
        adoptable.require(run, where, column, agreed)
    run.note(f"pgvmig: adopt {where.label} in column {column} ({agreed.model}, {agreed.dimensions} dimensions)")
    hazards.require_prepared_subscribers(run, where, "column", prepared=prepared)
    home = homes.beside(where.table, column)
    _lock(run, where.table, home)
    run.run(ddl.add_provenance_columns(home))
    _create_view_and_record(run, where, agreed, facts, home, adopted=True, writer=writer)
    return True


def examine(
    run: Runner,
    where: Address,
    column: str,
    contract: Contract,
    *,
    columns: Sequence[str] | None = None,
    key: Sequence[str] | None = None,
) -> Facts | None:
    """Return what `adopt` needs to know of the table, None when the version is there already; changes nothing.

    Raises as `adopt` for what the column's type and the table show.
    """
    where, present = _locate(run, where, contract)
    if present is not None and present["state"] == "retired":
        raise ConflictError(
            f"{where.label} is retired",
            hazard="Nobody has followed its column since then: its vectors may be of older texts",
            next_step="op.add_embedding() adds it again, empty",
        )
    if present is not None:
        return None
    if not run.offline:
        _check_adopted_column(run, where, column, contract)
    return _facts(run, where, columns, key, adopting=column)


def drop(run: Runner, where: Address, *, destroy: bool = False) -> None:
    """Undo `add`. Raises DestructionRefusedError while that would destroy vectors, unless `destroy`."""
    where = resolved(run, where)
    run.note(f"pgvmig: drop {where.label}; refused while it would destroy vectors")
    run.run(files.query("adding", "drop_version", destroy=sql.Literal(destroy), **where.literals()))


def release(run: Runner, where: Address) -> None:
    """Undo `adopt`: the application's column and its vectors stay."""
    where = resolved(run, where)
    run.note(f"pgvmig: release {where.label}; its vectors stay")
    run.run(files.query("adding", "release_version", **where.literals()))


def set_search(run: Runner, where: Address, search: Mapping[str, Any] | str, reason: str | None = None) -> bool | None:
    """Replace how the version is searched: what `pgvmig.active_space()` hands to services, and switches with it.

    `search` is JSON, as data or as text: ef_search, probes, iterative_scan, max_scan_tuples, and the services' own
    filters, hybrid and reranker. Returns whether it changed, None offline. Raises UsageError, NotFoundError.
    """
    where = resolved(run, where)
    text = search if isinstance(search, str) else json.dumps(dict(search), ensure_ascii=False, sort_keys=True)
    run.note(f"pgvmig: how {where.label} is searched: {text}")
    with run.transaction():
        rows = run.run(
            files.query(
                "adding", "set_search", **where.literals(), search=sql.Literal(text), reason=sql.Literal(reason)
            )
        )
    changed: bool | None = one(rows)
    return changed


def refresh_views(run: Runner, table: str, schema: str | None = None, slot: str = DEFAULT_SLOT) -> None:
    """Show columns that the application added to its table, at the end of every view of the slot."""
    where = resolved(run, Address(table=Table(schema, table), version="v1", slot=slot))
    run.run(files.query("adding", "refresh_views", relation=where.table.relation, slot=sql.Literal(slot)))


def _locate(run: Runner, where: Address, contract: Contract) -> tuple[Address, Row | None]:
    """Return the address with its schema, and the version's row if it is there.

    Raises ConflictError when it is there under another contract.
    """
    where = resolved(run, where)
    if run.offline:
        return where, None
    rows = run.run(files.query("adding", "version_facts", **where.literals()))
    if not rows:
        return where, None
    before = Contract.of(decoded(rows[0]["definition"]))
    if before != contract:
        raise ConflictError(
            f"{where.label} exists with another contract:\n{render_diff(before, contract)}",
            hazard="Its vectors were made under the first; a contract is frozen",
            next_step="add the changed contract as the next version; where two branches each added "
            f"{where.version}, give the revision that was run nowhere another number",
        )
    return where, rows[0]


def _facts(
    run: Runner,
    where: Address,
    columns: Sequence[str] | None,
    key: Sequence[str] | None,
    *,
    adopting: str | None,
    apart: bool = False,
) -> Facts:
    if run.offline:
        return _literal_facts(where, columns, key, adopting)
    row = facts_of(run, where.table)
    tables.check(row, where)
    if not apart:
        tables.require_room_for_columns(row, where)
    slot = run.run(files.query("adding", "slot_facts", relation=where.table.relation, slot=sql.Literal(where.slot)))
    if slot:
        shown = [Column(*pair) for pair in zip(slot[0]["view_columns"], slot[0]["present"], strict=True)]
        known = [Column(*pair) for pair in zip(slot[0]["key_columns"], slot[0]["present_key"], strict=True)]
        # another key than the slot's is refused by the database, with both in the message
        given = known if key is None or [*key] == slot[0]["key_columns"] else _as_they_are(key)
        _refuse_other_columns(where, slot[0], columns, adopting)
        return Facts(columns=shown, key=_compared(run, where, given), vector_schema=row["vector_schema"])
    own = [name for name in row["columns"] if name not in row["managed"] and name != adopting]
    # the adopted column is shown as the vector, and not a second time under its own name
    chosen = [name for name in (own if columns is None else columns) if name != adopting or name == where.slot]
    unknown = [name for name in chosen if name not in row["columns"] and name != where.slot]
    if unknown:
        raise NotFoundError(f"{where.table.name} has no column {unknown[0]}", next_step="check columns=")
    views.refuse_collisions(own, where.slot, where.table.name)
    names = views.with_slot(chosen, where.slot)
    if key is None and row["key"] is None:
        raise NotFoundError(
            f"{where.table.name} has no primary key and no unique key without NULLs",
            hazard="Nobody could say which row a vector belongs to",
            next_step="add one, or name key=[...]",
        )
    return Facts(
        columns=_as_they_are(names),
        key=_compared(run, where, _as_they_are(row["key"] if key is None else key)),
        vector_schema=row["vector_schema"],
    )


def _refuse_other_columns(where: Address, slot: Row, columns: Sequence[str] | None, adopting: str | None) -> None:
    """Raise ConflictError for other columns than the slot's views have: the current view could not be swapped."""
    if columns is None:
        return
    given = views.with_slot([name for name in columns if name != adopting or name == where.slot], where.slot)
    if given not in (slot["view_columns"], slot["present"]):
        raise ConflictError(
            f"the views of {label(where.table.name, where.slot, where.table.schema)} show the columns "
            f"{', '.join(slot['view_columns'])}, not {', '.join(given)}",
            hazard="PostgreSQL swaps the current view between versions that show the same columns only",
            next_step="leave columns= out, or name those; op.refresh_embedding_views() appends new ones",
        )


def _compared(run: Runner, where: Address, key: Sequence[Column]) -> list[Column]:
    """Return the key with the operators of its index: a bare = would be looked for on the search_path."""
    sources = sql.Literal([column.source for column in key])
    rows = run.run(files.query("adding", "key_operators", relation=where.table.relation, key=sources))
    return [Column(column.name, column.source, row["operator"]) for column, row in zip(key, rows, strict=True)]


def _literal_facts(
    where: Address, columns: Sequence[str] | None, key: Sequence[str] | None, adopting: str | None
) -> Facts:
    if columns is None or key is None:
        raise UsageError(
            f"{where.label}: offline SQL cannot ask the catalog for the table's columns and key",
            next_step="write columns=[...] and key=[...] into the operation",
        )
    own = [name for name in columns if name not in (where.slot, adopting)]
    views.refuse_collisions(own, where.slot, where.table.name)
    shown = views.with_slot([name for name in columns if name == where.slot or name != adopting], where.slot)
    return Facts(columns=_as_they_are(shown), key=_as_they_are(key), vector_schema=None)


def _as_they_are(names: Sequence[str]) -> list[Column]:
    return [Column(name, name) for name in names]


def _check_adopted_column(run: Runner, where: Address, column: str, contract: Contract) -> None:
    rows = run.run(files.query("adding", "column_type", relation=where.table.relation, column=sql.Literal(column)))
    if not rows:
        raise NotFoundError(f"{where.table.name} has no column {column}", next_step="check column=")
    found = rows[0]
    # pgvector's typmod is the dimension; -1 is a column without one, which an index would not take
    if found["name"] != contract.vector_type or found["dimensions"] not in (-1, contract.dimensions):
        raise ContractError(
            f"{where.table.name}.{column} is {found['type']}, the contract says "
            f"{contract.vector_type}({contract.dimensions})",
            **_OTHER_SPACE,
        )


def _check_dimensions(run: Runner, where: Address, column: str, contract: Contract) -> None:
    """Look into a column that takes vectors of any dimensions."""
    kind = run.run(files.query("adding", "column_type", relation=where.table.relation, column=sql.Literal(column)))
    if kind[0]["dimensions"] != -1:
        return
    dims = one(
        run.run(
            files.query(
                "adding",
                "other_dimensions",
                table=where.table.identifier,
                column=column,
                dims=ddl.type_name(one(run.run(sql.SQL("SELECT pgvmig.vector_schema()"))), "vector_dims"),
                dimensions=sql.Literal(contract.dimensions),
            )
        )
    )
    if dims is not None:
        raise ContractError(
            f"{where.table.name}.{column} holds a vector of {dims} dimensions, the contract says {contract.dimensions}",
            **_OTHER_SPACE,
        )


def _lock(run: Runner, table: Table, home: Home) -> None:
    # new triggers alone keep nobody from reading
    mode = sql.SQL("ACCESS EXCLUSIVE" if home.table == table else "SHARE ROW EXCLUSIVE")
    statement = files.text(files.query("adding", "lock_statement", table=table.identifier, mode=mode))
    run.run(files.query("adding", "lock_table", statement=sql.Literal(statement)))


def _create_view_and_record(
    run: Runner, where: Address, contract: Contract, facts: Facts, home: Home, *, adopted: bool, writer: str
) -> None:
    run.run(
        views.create(
            where.table,
            where.version,
            where.slot,
            contract=contract,
            home=home,
            columns=facts.columns,
            vector_type=ddl.type_name(facts.vector_schema, contract.vector_type),
        )
    )
    view = where.table.beside(view_name(where.table.name, where.slot, where.version))
    run.run(
        files.query(
            "adding",
            "add_version",
            **where.literals(),
            contract=sql.Literal(contract.canonical()),
            view=sql.Literal(files.text(view)),
            view_columns=sql.Literal([column.name for column in facts.columns]),
            key_columns=sql.Literal([column.name for column in facts.key]),
            vector=sql.Literal(home.vector),
            version_id=sql.Literal(home.version_id),
            source_hash=sql.Literal(home.source_hash),
            embedded_at=sql.Literal(home.embedded_at),
            object_name=sql.Literal(_object_name(where)),
            layout=sql.Literal(home.layout),
            vector_relation=home.table.relation,
            adopted=sql.Literal(adopted),
            writer=sql.Literal(writer),
        )
    )
    run.memory[where] = Added(contract, home, adopted)


def _object_name(where: Address) -> str:
    """Return the beginning of the names of a version's own objects in schema pgvmig."""
    own = view_name(where.table.name, where.slot, where.version)
    return fit(own if where.table.schema in (None, "public") else f"{where.table.schema}_{own}")
