"""The index of a partitioned table: built on each leaf partition CONCURRENTLY, then attached to the table's own.

The table's own index is made first, empty and not valid. From then on PostgreSQL gives every new partition its index,
and the table's becomes valid with the last one that is attached. Interrupted anywhere, the next run goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from psycopg import sql

from pgvmig import one_index
from pgvmig import sql as files
from pgvmig.address import Table
from pgvmig.errors import BlockedError, ConflictError, UsageError
from pgvmig.names import fit
from pgvmig.one_index import Found, Step, Wanted
from pgvmig.runner import Row, Runner, one

Calm = Callable[[Table], None]


def is_partitioned(run: Runner, table: Table) -> bool:
    """Return whether the table has partitions; offline nobody knows, and it is written down as if it had none."""
    return not run.offline and bool(one(run.run(_query("is_partitioned", relation=table.relation))))


def require_method(run: Runner, wanted: Wanted) -> None:
    """Raise UsageError for a method whose index of a new partition would be of no use."""
    if wanted.plan.method == "ivfflat" and is_partitioned(run, wanted.table):
        raise UsageError(
            f"method is 'ivfflat' and {wanted.table.name} is partitioned",
            hazard="IVFFlat takes its centres from the rows that are there: a new partition's index is made before its "
            "first row, and its searches would miss most of what comes",
            next_step="method='hnsw', or layout=\"table\", whose side table has one index of all vectors",
        )


def take(run: Runner, wanted: Wanted, step: Step, calm: Calm | None = None) -> None:
    """Take one step, outside any transaction. `calm` is called with each table whose index is begun, before that."""
    if not is_partitioned(run, wanted.table):
        if step.verb == "create" and calm is not None:
            calm(wanted.table)
        one_index.take(run, wanted, step)
    elif step.verb == "drop":
        drop(run, wanted.table, step.name)
    elif step.verb == "rename":
        _rename(run, wanted, step.name)
    else:
        _create(run, wanted, step.name, calm)


def drop(run: Runner, table: Table, name: str) -> None:
    """Drop the table's index with those of its partitions, and what an interrupted build left on them."""
    drop_whole(run, table.beside(name))
    for row in _partitions(run, table):
        part, left = _table(row), _part_name(table, name, _table(row))
        if any(found["name"] == left and found["free"] and found["same_table"] for found in _free(run, part, left)):
            _drop_part(run, part.beside(left), leaf=row["isleaf"])


def drop_whole(run: Runner, index: sql.Composable) -> None:
    """Drop a partitioned table's index. Waits for its locks in short tries, because whoever comes behind waits too."""
    _patiently(run, _query("drop", index=index))


def _drop_part(run: Runner, index: sql.Composable, *, leaf: bool) -> None:
    if leaf:
        run.run(files.query("indexing", "drop_index", index=index))
    else:
        drop_whole(run, index)


def _create(run: Runner, wanted: Wanted, name: str, calm: Calm | None) -> None:
    index = sql.Literal(files.text(wanted.table.beside(name)))
    _patiently(run, one_index.statement(run, wanted, name, query="create_index_on_only"))
    while rows := run.run(_query("next_part", relation=wanted.table.relation, index=index)):
        part = replace(wanted, table=_table(rows[0]))
        part_name = _part_name(wanted.table, name, part.table)
        if rows[0]["isleaf"]:
            part_name = _build(run, part, part_name, calm)
        else:
            _begin(run, part, part_name)
        # regclass::text is quoted already
        attach_to = sql.SQL(rows[0]["attach_to"])
        _patiently(run, _query("attach", index=attach_to, part=part.table.beside(part_name)))
    run.run(files.query("indexing", "require_valid_index", index=index))


def _begin(run: Runner, part: Wanted, name: str) -> None:
    """Make the index of a partition that is partitioned itself; one that was left has nothing attached yet."""
    if name in _unattached(run, part.table, name):
        drop_whole(run, part.table.beside(name))
    _patiently(run, one_index.statement(run, part, name, query="create_index_on_only"))


def _build(run: Runner, part: Wanted, name: str, calm: Calm | None) -> str:
    """Bring a leaf's index about, unless one that is as wanted is there. Returns its name."""
    states = one_index.states_on(run, part)
    there = _unattached(run, part.table, name)
    if built := next((free for free in there if states.get(free) is Found.RIGHT), None):
        return built
    if name in there:
        run.run(files.query("indexing", "drop_index", index=part.table.beside(name)))
    if calm is not None:
        calm(part.table)
    run.run(one_index.statement(run, part, name))
    run.run(files.query("indexing", "require_valid_index", index=sql.Literal(files.text(part.table.beside(name)))))
    return name


def _unattached(run: Runner, part: Table, name: str) -> list[str]:
    """Return a leaf's indexes that are part of no other, also that of our name.

    Raises ConflictError where the name is somebody else's, BlockedError while somebody builds it.
    """
    rows = _free(run, part, name)
    for row in rows:
        if row["name"] == name and not (row["same_table"] and row["free"]):
            raise ConflictError(
                f"{files.text(part.beside(name))} is an index of another table, or part of another index",
                hazard="It would be dropped as the remains of an interrupted build",
                next_step="rename it: ALTER INDEX ... RENAME TO ...",
            )
        if row["name"] == name and row["builder"] is not None:
            raise BlockedError(
                f"{files.text(part.beside(name))} is being built by the process {row['builder']}",
                hazard="To drop it as the remains of an interrupted build would throw away what that process has done",
                next_step="wait for it, or stop it with SELECT pg_cancel_backend(...); then run this again",
                pid=row["builder"],
            )
    return [row["name"] for row in rows]


def _free(run: Runner, part: Table, name: str) -> list[Row]:
    return run.run(_query("unattached", relation=part.relation, index=sql.Literal(files.text(part.beside(name)))))


def _rename(run: Runner, wanted: Wanted, name: str) -> None:
    """Give the index the name wanted, and those of its partitions theirs; the table's own comes last."""
    table, called = wanted.table, wanted.names.name
    owners = {_part_name(table, name, _table(row)): _table(row) for row in _partitions(run, table)}
    for row in run.run(_query("parts", index=sql.Literal(files.text(table.beside(name))))):
        if part := owners.get(row["name"]):
            new = _part_name(table, called, part)
            run.run(files.query("indexing", "rename_index", index=part.beside(row["name"]), called=new))
    run.run(files.query("indexing", "rename_index", index=table.beside(name), called=called))


def _partitions(run: Runner, table: Table) -> list[Row]:
    return run.run(_query("partitions", relation=table.relation))


def _part_name(table: Table, name: str, part: Table) -> str:
    """Return the name of a partition's part of an index: the partition's own, and what the table's adds to it."""
    added = name.removeprefix(f"{table.name}_")
    return fit(f"{part.name}_{added}")


def _patiently(run: Runner, statement: sql.Composed) -> None:
    run.run(_query("patiently", statement=sql.Literal(files.text(statement))))


def _table(row: Row) -> Table:
    return Table(row["table_schema"], row["table_name"])


def _query(name: str, **parts: sql.Composable) -> sql.Composed:
    return files.query("partitions", name, **parts)
