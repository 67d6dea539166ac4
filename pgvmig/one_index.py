"""One index on one table brought to what is wanted, CONCURRENTLY and never without an index in between.

Another definition is built beside the old index, which is dropped then and leaves its name. Interrupted anywhere, the
next run goes on: what is to be done follows from what is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from psycopg import sql

from pgvmig import sql as files
from pgvmig.address import Table
from pgvmig.contract import Contract
from pgvmig.errors import BlockedError, ConflictError
from pgvmig.index_plan import IndexPlan
from pgvmig.layouts import ddl
from pgvmig.names import fit
from pgvmig.runner import Row, Runner, decoded, one


class Found(StrEnum):
    """What an index of ours is: as it is wanted, valid but another, or left by an interrupted build or drop.

    Unfinished is one of a partitioned table that is as wanted, and lacks some of its partitions.
    """

    RIGHT = "right"
    OTHER = "other"
    INVALID = "invalid"
    UNFINISHED = "unfinished"


@dataclass(frozen=True, slots=True)
class Names:
    """What an index is called, what it is called while the one before it is there, and what other methods' are."""

    name: str
    others: tuple[str, ...] = ()

    @property
    def beside(self) -> str:
        """The name of the one that is to take another's place."""
        return fit(f"{self.name}_new")

    @property
    def ours(self) -> tuple[str, ...]:
        """Every name that pgvmig gives."""
        return (self.name, self.beside, *self.others, *(Names(other).beside for other in self.others))


@dataclass(frozen=True, slots=True)
class Step:
    """`create`, `drop` or `rename` an index; a rename is to the name wanted."""

    verb: str
    name: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """An index as it is to be: on which column of which table, of vectors of which contract."""

    table: Table
    column: str
    contract: Contract
    plan: IndexPlan
    names: Names


def steps(names: Names, found: Mapping[str, Found], *, another_serves: bool = False) -> list[Step]:
    """Return what is to be done. `another_serves`: an index that is not ours is already as this one is to be."""
    found = _without_resumed(names, found, another_serves=another_serves)
    there = [name for name in names.ours if name in found]
    if another_serves or found.get(names.name) is Found.RIGHT:
        kept = names.name if found.get(names.name) is Found.RIGHT else None
        return [Step("drop", name) for name in there if name != kept]
    begin = [Step("drop", name) for name in there if found[name] is Found.INVALID]
    left = [name for name in there if found[name] is not Found.INVALID]
    if found.get(names.beside) is Found.RIGHT:
        left.remove(names.beside)
        return [*begin, *(Step("drop", name) for name in left), Step("rename", names.beside)]
    if names.name not in left:
        return [*begin, Step("create", names.name), *(Step("drop", name) for name in left)]
    if names.beside in left:  # of a change that was given up
        left.remove(names.beside)
        begin.append(Step("drop", names.beside))
    drops = [Step("drop", name) for name in left]
    return [*begin, Step("create", names.beside), *drops, Step("rename", names.beside)]


def _without_resumed(names: Names, found: Mapping[str, Found], *, another_serves: bool) -> dict[str, Found]:
    """Return what is there but for the unfinished index that is to be created: its creation goes on with it."""
    to_create = names.beside if found.get(names.name) is Found.OTHER else names.name
    done = another_serves or Found.RIGHT in (found.get(names.name), found.get(names.beside))
    return {
        name: Found.INVALID if state is Found.UNFINISHED else state
        for name, state in found.items()
        if done or state is not Found.UNFINISHED or name != to_create
    }


def to_do(run: Runner, wanted: Wanted) -> list[Step]:
    """Return what is to be done by what the catalog says; offline the index is created.

    Raises ConflictError where an index of another table has the name, BlockedError while somebody builds it.
    """
    if run.offline:
        return [Step("create", wanted.names.name)]
    _require_free_names(run, wanted)
    states = states_on(run, wanted)
    another = any(state is Found.RIGHT and name not in wanted.names.ours for name, state in states.items())
    return steps(wanted.names, states, another_serves=another)


def take(run: Runner, wanted: Wanted, step: Step) -> None:
    """Take one step, outside any transaction."""
    index = wanted.table.beside(step.name)
    if step.verb == "drop":
        run.run(files.query("indexing", "drop_index", index=index))
    elif step.verb == "rename":
        run.run(files.query("indexing", "rename_index", index=index, called=wanted.names.name))
    else:
        run.run(statement(run, wanted, step.name))
        run.run(files.query("indexing", "require_valid_index", index=sql.Literal(files.text(index))))


def statement(run: Runner, wanted: Wanted, name: str, *, query: str = "create_index") -> sql.Composed:
    """Return CREATE INDEX."""
    schema = None if run.offline else one(run.run(sql.SQL("SELECT pgvmig.vector_schema()")))
    return files.query(
        "indexing",
        query,
        index=name,
        table=wanted.table.identifier,
        method=sql.SQL(wanted.plan.method),
        held=_held(wanted, schema),
        opclass=ddl.type_name(schema, wanted.plan.opclass(wanted.contract)),
        options=_with_options(wanted.plan.options),
    )


def _held(wanted: Wanted, schema: str | None) -> sql.Composable:
    """Return what the index holds: the column, or the expression of it that a search through a view becomes."""
    if wanted.plan.quantize is None:
        return sql.Identifier(wanted.column)
    return files.query(
        "indexing",
        {"halfvec": "halfvec_of", "binary": "bits_of"}[wanted.plan.quantize],
        vector=wanted.column,
        vector_type=ddl.type_name(schema, wanted.contract.vector_type),
        halfvec=ddl.type_name(schema, "halfvec"),
        binary_quantize=ddl.type_name(schema, "binary_quantize"),
        dimensions=sql.Literal(wanted.contract.dimensions),
    )


def states_on(run: Runner, wanted: Wanted) -> dict[str, Found]:
    """Return the vector indexes on the column by their names, and what they are."""
    rows = run.run(
        files.query(
            "indexing",
            "indexes_on",
            relation=wanted.table.relation,
            column=sql.Literal(wanted.column),
            vector_type=sql.Literal(wanted.contract.vector_type),
            dimensions=sql.Literal(wanted.contract.dimensions),
        )
    )
    return {row["name"]: _state(row, wanted) for row in rows}


def _state(row: Row, wanted: Wanted) -> Found:
    plan = wanted.plan
    if not row["valid"] and not row["partitioned"]:
        return Found.INVALID
    same = (row["method"], row["opclass"], row["quantize"]) == (
        plan.method,
        plan.opclass(wanted.contract),
        plan.quantize,
    )
    right = same and row["whole"] and plan.is_met_by(decoded(row["options"]))
    if not row["valid"]:
        return Found.UNFINISHED if right else Found.INVALID
    return Found.RIGHT if right else Found.OTHER


def _require_free_names(run: Runner, wanted: Wanted) -> None:
    names: Sequence[str] = [files.text(wanted.table.beside(name)) for name in wanted.names.ours]
    rows: list[dict[str, Any]] = run.run(
        files.query("indexing", "index_states", relation=wanted.table.relation, indexes=sql.Literal(list(names)))
    )
    for row in rows:
        if not row["same_table"]:
            raise ConflictError(
                f"{row['index']} is an index of another table",
                hazard="It would be dropped as the remains of an interrupted build",
                next_step="rename it: ALTER INDEX ... RENAME TO ...",
            )
        if row["builder"] is not None:
            raise BlockedError(
                f"{row['index']} is being built by the process {row['builder']}",
                hazard="To drop it as the remains of an interrupted build would throw away what that process has done",
                next_step="wait for it, or stop it with SELECT pg_cancel_backend(...); then run this again",
                pid=row["builder"],
            )


def _with_options(options: Mapping[str, Any]) -> sql.Composable:
    if not options:
        return sql.SQL("")
    settings = sql.SQL(", ").join(
        sql.SQL("{} = {}").format(sql.Identifier(key), sql.Literal(value)) for key, value in options.items()
    )
    return sql.SQL(" WITH ({})").format(settings)
