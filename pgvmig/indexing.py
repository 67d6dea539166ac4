"""Build a version's index after its backfill, CONCURRENTLY, and drop it the same way."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from psycopg import sql

from pgvmig import indexing_partitions, one_index
from pgvmig import sql as files
from pgvmig.address import Address, Table
from pgvmig.catalog.connection import is_passing
from pgvmig.contract import Contract
from pgvmig.errors import ConflictError, DatabaseError, NotFoundError, UsageError
from pgvmig.home import Home
from pgvmig.index_plan import METHODS, IndexPlan
from pgvmig.layouts import ddl
from pgvmig.locating import resolved
from pgvmig.names import fit, vector_column
from pgvmig.one_index import Found, Names, Step, Wanted
from pgvmig.runner import Added, Row, Runner, decoded, one

# Up to so many rows a list for every thousand; above, the square root of their number.
_MANY = 1_000_000

Say = Callable[[str], None]


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
    quantize: str | None = None,
    after_backfill: bool = False,
    early: bool = False,
    calm: Callable[[Table], None] | None = None,
    say: Say | None = None,
) -> bool:
    """Bring the version's index about and keep what was asked for. Returns whether anything had to be done.

    One of another definition is built beside the old, which is dropped then. `calm` is called with the table that is
    read, outside any transaction, before a build: it may wait or raise.
    While more than a tenth of the rows has no vector, it raises GateError, unless `early`; with `after_backfill` it is
    only kept for `pgvmig index`, and `say` is told so. Raises UsageError for what cannot be, before anything is done.
    """
    where = resolved(run, where)
    if after_backfill and run.offline and where not in run.memory:
        _keep_unseen(run, where, IndexPlan(method, dict(options or {}), quantize))
        return False
    version = _version(run, where)
    plan = asked = IndexPlan.of(version.contract, method, options, quantize)
    wanted = _wanted(where, version, plan)
    indexing_partitions.require_method(run, wanted)
    if after_backfill and not early and (run.offline or not _is_backfilled(run, where)):
        _keep_for_later(run, where, wanted, say)
        return False
    if not run.offline and plan.method == "ivfflat":
        rows = _count(run, version.home)
        if rows == 0:
            _keep(run, where, plan)
            _say(say, f"{where.label}: IVFFlat takes the centres of its lists from the rows, and there are none yet")
            return False
        plan = with_lists(plan, rows)
        wanted = _wanted(where, version, plan)
    wanted = _with_earlier_names(run, where, wanted)
    to_do = one_index.to_do(run, wanted)
    begins = any(step.verb == "create" for step in to_do)
    if begins and version.adopted:
        _require_dimensions(run, wanted, version)
    run.note(f"pgvmig: index {where.label}; without a lock on the table, and not inside a transaction")
    if begins and not early:
        run.run(files.query("indexing", "require_backfilled", **where.literals()))
    _keep(run, where, asked)
    if to_do:
        _take(run, where, wanted, to_do, calm)
    _validate(run, where, version)
    return bool(to_do)


def _take(
    run: Runner, where: Address, wanted: Wanted, to_do: Sequence[Step], calm: Callable[[Table], None] | None
) -> None:
    """Take the steps, and leave an event of an index that was built."""
    with run.outside_transaction(), _without_timeouts(run):
        for step in to_do:
            indexing_partitions.take(run, wanted, step, calm)
            if step.verb == "create":
                run.run(files.query("indexing", "tell_searchers", **where.literals()))
    if any(step.verb == "create" for step in to_do):
        built = sql.Literal(files.text(wanted.table.beside(wanted.names.name)))
        with run.transaction():
            run.run(files.query("indexing", "record_built", **where.literals(), index=built))


def _require_dimensions(run: Runner, wanted: Wanted, version: Added) -> None:
    """Raise ConflictError for a column without dimensions; a quantised index has its own."""
    if run.offline or wanted.plan.quantize is not None:
        return
    column = sql.Literal(version.home.vector)
    rows = run.run(files.query("adding", "column_type", relation=version.home.table.relation, column=column))
    if not rows or rows[0]["dimensions"] != -1:
        return
    contract = version.contract
    schema = one(run.run(sql.SQL("SELECT pgvmig.vector_schema()")))
    cast = sql.SQL("(({}::{}({})) {})").format(
        sql.Identifier(version.home.vector),
        ddl.type_name(schema, contract.vector_type),
        sql.SQL(str(contract.dimensions)),
        ddl.type_name(schema, wanted.plan.opclass(contract)),
    )
    index = sql.SQL("CREATE INDEX CONCURRENTLY ON {} USING hnsw {}").format(version.home.table.identifier, cast)
    # which would not be smaller than halfvec
    smaller = (
        'searches know an index of smaller vectors, which has its dimensions: quantize="halfvec"; or '
        if contract.vector_type == "vector"
        else ""
    )
    raise ConflictError(
        f"{wanted.table.name}.{version.home.vector} is {contract.vector_type} without dimensions",
        hazard="PostgreSQL can index a cast of it only, which searches have to name; a type with dimensions rewrites "
        "the table under a lock",
        next_step=f"{smaller}for queries that name the cast: {files.text(index)}",
    )


def planned(run: Runner, where: Address) -> IndexPlan | None:
    """Return the index that is kept for the version, None without one. Raises NotFoundError."""
    where = resolved(run, where)
    version = _version(run, where)
    kept = decoded(one(run.run(files.query("indexing", "planned", **where.literals()))))
    return IndexPlan.of(version.contract, kept["method"], kept["options"], kept["quantize"]) if kept else None


def with_lists(plan: IndexPlan, rows: int) -> IndexPlan:
    """Return the plan with as many lists as pgvector's README advises for so many rows, where none are given."""
    if plan.method != "ivfflat" or "lists" in plan.options:
        return plan
    lists = rows // 1000 if rows <= _MANY else math.isqrt(rows)
    return replace(plan, options={**plan.options, "lists": max(1, lists)})


def _wanted(where: Address, version: Added, plan: IndexPlan) -> Wanted:
    home = version.home
    others = tuple(index_name(where, version, method) for method in METHODS if method != plan.method)
    names = Names(index_name(where, version, plan.method), others)
    return Wanted(home.table, home.vector, version.contract, plan, names)


def _keep(run: Runner, where: Address, plan: IndexPlan | None) -> None:
    kept = sql.Literal(None if plan is None else json.dumps(plan.as_dict()))
    with run.transaction():
        run.run(files.query("indexing", "plan_index", **where.literals(), plan=kept))


def _keep_for_later(run: Runner, where: Address, wanted: Wanted, say: Say | None) -> None:
    run.note(f"pgvmig: the index of {where.label}, which pgvmig index {where.label} builds after the backfill:")
    if run.offline:
        run.note(files.text(one_index.statement(run, wanted, wanted.names.name)) + ";")
    _keep(run, where, wanted.plan)
    _say(say, f"{where.label}: its index is built after the backfill. Next: pgvmig index {where.label}")


def _keep_unseen(run: Runner, where: Address, plan: IndexPlan) -> None:
    """Keep the plan for a version that an earlier script added; what cannot be is refused when it is built."""
    run.note(f"pgvmig: what the index of {where.label} is to be; pgvmig index {where.label} builds it")
    _keep(run, where, plan)


def _say(say: Say | None, text: str) -> None:
    if say is not None:
        say(text)


def _is_backfilled(run: Runner, where: Address) -> bool:
    return bool(one(run.run(files.query("indexing", "is_backfilled", **where.literals()))))


def _count(run: Runner, home: Home) -> int:
    count = files.query("indexing", "count_vectors", table=home.table.identifier, vector=home.vector)
    return int(one(run.run(count)))


@contextmanager
def _without_timeouts(run: Runner) -> Iterator[None]:
    """Lift the session's timeouts for the block, and put back what they were."""
    before = run.run(files.query("indexing", "timeouts")) if not run.offline else []
    run.run(files.query("indexing", "no_timeouts"))
    try:
        yield
    except DatabaseError as error:
        if not is_passing(error):  # a connection that is lost has no settings, and is what there is to say
            _put_back(run, before)
        raise
    except BaseException:
        _put_back(run, before)
        raise
    _put_back(run, before)


def _put_back(run: Runner, before: list[Row]) -> None:
    if before:
        values = {name: sql.Literal(value) for name, value in before[0].items()}
        run.run(files.query("indexing", "restore_timeouts", **values))
    else:
        run.run(files.query("indexing", "reset_lock_timeout"))
        run.run(files.query("indexing", "reset_statement_timeout"))


def drop(
    run: Runner, where: Address, *, method: str = "hnsw", version_stays: bool = False, destroy: bool = False
) -> None:
    """Drop the index that `build` built, and forget that there is to be one. A version that is not there has none.

    `version_stays`: it is to be searched without an index. Else its vectors are to be dropped next, and where that
    would be refused (`destroy` as there) this is refused as well, before anything is done: raises ConflictError,
    DestructionRefusedError.
    """
    where = resolved(run, where)
    # a script of the way down has no revision that adds the version: then it has its column's usual name
    version = _known(run, where)
    if version is None and not run.offline:
        return
    if not version_stays:
        run.note(f"pgvmig: drop the index of {where.label}; refused while searches need it, or vectors would be lost")
        gives_up = sql.Literal(destroy)
        run.run(files.query("indexing", "require_droppable_index", **where.literals(), destroy=gives_up))
    names = Names(index_name(where, version, method))
    partitioned = version is not None and indexing_partitions.is_partitioned(run, version.home.table)
    earlier = _earlier_names(run, where, method)
    _keep(run, where, None)
    with run.outside_transaction():
        for name in dict.fromkeys((names.name, names.beside, *earlier)):
            if partitioned:
                indexing_partitions.drop(run, where.table, name)
            else:
                run.run(files.query("indexing", "drop_index", index=where.table.beside(name)))


def _earlier_names(run: Runner, where: Address, method: str) -> list[str]:
    """Return how indexes of the version are called that got their names when the table had another one."""
    if run.offline:
        return []
    end = sql.Literal(f"_{vector_column(where.slot, where.version)}_{method}")
    return [row["name"] for row in run.run(files.query("indexing", "named_before", **where.literals(), end=end))]


def _with_earlier_names(run: Runner, where: Address, wanted: Wanted) -> Wanted:
    """Return what is wanted, with the earlier names of indexes that are another; one that is right serves as it is."""
    if run.offline:
        return wanted
    states = one_index.states_on(run, wanted)
    earlier = [name for method in METHODS for name in _earlier_names(run, where, method)]
    others = [name for name in earlier if name not in wanted.names.ours and states.get(name) is not Found.RIGHT]
    return replace(wanted, names=replace(wanted.names, others=(*wanted.names.others, *dict.fromkeys(others))))


def drop_all(run: Runner, where: Address) -> int:
    """Drop every vector index on a column that pgvmig made, before the column goes. Returns the bytes freed."""
    if run.offline:
        drop(run, where, version_stays=True)
        return 0
    indexes = run.run(files.query("indexing", "version_indexes", **where.literals()))
    # waits for whoever has the table open, without keeping anybody waiting: a timeout would leave an invalid index
    with run.outside_transaction(), _without_timeouts(run):
        for index in indexes:
            # regclass::text is quoted already, and qualified where the search_path needs it
            name = sql.SQL(index["name"])
            if index["partitioned"]:
                indexing_partitions.drop_whole(run, name)
            else:
                run.run(files.query("indexing", "drop_index", index=name))
    return sum(index["bytes"] for index in indexes)


def _version(run: Runner, where: Address) -> Added:
    version = _known(run, where)
    if version is None and run.offline:
        raise UsageError(
            f"{where.label}: offline SQL knows a version only from the revision that adds it",
            next_step="begin the range with that revision: alembic upgrade <the one before it>:head --sql; where the "
            "database has it, after_backfill=True records the index, and pgvmig index builds it",
        )
    if version is None:
        raise NotFoundError(f"there is no {where.label}", next_step="op.add_embedding() adds it")
    return version


def _known(run: Runner, where: Address) -> Added | None:
    """Return what the catalog knows of the version, or offline the script; None when that is nothing."""
    if run.offline:
        return run.memory.get(where)
    rows = run.run(files.query("adding", "version_facts", **where.literals()))
    if not rows:
        return None
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
