"""What the database says of a table before a backfill: its shape, a sample of its pages, who else would notice."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from psycopg import sql

from pgvmig import hazards
from pgvmig import sql as files
from pgvmig.address import Address, Table
from pgvmig.errors import DatabaseError, NotFoundError
from pgvmig.planning.costs import Index
from pgvmig.planning.tuples import Column, Row, Value
from pgvmig.runner import Row as Record
from pgvmig.runner import Runner

# So many pages tell the HOT share to about two points, and are read in well under a second.
SAMPLE_PAGES = 300
_SEED = 20
_SAYS_WHAT_IS_EXTERNAL = 170_000  # server_version_num from which pg_column_toast_chunk_id() is there


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A table as the plan needs it. `sample`: pages of (row, whether it waits). Sizes in bytes, ages in seconds."""

    table: Record
    columns: list[Column]
    indexes: list[Index]
    triggers: list[hazards.Trigger]
    publications: list[hazards.Publication]
    rows: int
    waiting: int
    exact: bool
    sample: list[list[tuple[Row, bool]]]
    compression_known: bool


def gather(
    run: Runner, where: Address, *, waits: sql.Composable, own: Sequence[str] = (), exact: bool = False
) -> Facts:
    """Return what is known of the table; `own` are the version's columns in it, the vector first.

    `waits` says of a row `d` whether it has no vector of the version yet. Reads `SAMPLE_PAGES` pages, and with `exact`
    the whole table. Raises NotFoundError.
    """
    table = table_facts(run, where.table)
    columns = _columns(run, where.table)
    percent = min(100.0, 100 * SAMPLE_PAGES / max(table["pages"], 1))
    sample = _sample(run, where.table, columns, waits, percent)
    columns, known = _with_compression(run, where.table, columns, percent)
    rows, waiting = _rows(run, where.table, table, sample, waits, exact=exact)
    return Facts(
        table=table,
        columns=columns,
        indexes=_indexes(run, where.table, own),
        triggers=hazards.triggers(run, where.table, own),
        publications=hazards.publications(run, where.table),
        rows=rows,
        waiting=waiting,
        exact=exact,
        sample=sample,
        compression_known=known,
    )


def table_facts(run: Runner, table: Table) -> Record:
    """Return the table's own figures. Raises NotFoundError."""
    rows = run.run(files.query("plan", "table_facts", relation=table.relation))
    if not rows or rows[0]["relkind"] not in ("r", "p"):
        raise NotFoundError(f"there is no table {files.text(table.identifier)}", next_step="check the target's name")
    return rows[0]


def _columns(run: Runner, table: Table) -> list[Column]:
    return [Column(**row) for row in run.run(files.query("plan", "columns", relation=table.relation))]


def _indexes(run: Runner, table: Table, own: Sequence[str]) -> list[Index]:
    rows = run.run(files.query("plan", "indexes", relation=table.relation, columns=sql.Literal([*own])))
    return [Index(**{**row, "dimensions": row["dimensions"] if row["dimensions"] > 0 else None}) for row in rows]


def _sample(
    run: Runner, table: Table, columns: Sequence[Column], waits: sql.Composable, percent: float
) -> list[list[tuple[Row, bool]]]:
    rows = run.run(
        files.query(
            "plan",
            "sample",
            table=table.identifier,
            waits=waits,
            sizes=_each("pg_column_size(d.{})", columns),
            external=_external(run, columns),
            compressed=_each("pg_column_compression(d.{}) IS NOT NULL", columns, only_varlena="false"),
            percent=sql.Literal(percent),
            seed=sql.Literal(_SEED),
        )
    )
    pages: dict[int, list[tuple[Row, bool]]] = defaultdict(list)
    for row in rows:
        pages[row["page"]].append((_values(row), row["waits"]))
    return list(pages.values())


def _values(row: Record) -> Row:
    parts = zip(row["sizes"], row["external"], row["compressed"], strict=True)
    return [None if size is None else Value(size, bool(outside), bool(packed)) for size, outside, packed in parts]


def _each(template: str, columns: Iterable[Column], only_varlena: str | None = None) -> sql.Composed:
    """Return the expression for each column, or for those of fixed length `only_varlena`."""
    return sql.SQL(", ").join(
        sql.SQL(only_varlena)
        if only_varlena is not None and column.length > 0
        else sql.SQL(template).format(sql.Identifier(column.name))
        for column in columns
    )


def _external(run: Runner, columns: Sequence[Column]) -> sql.Composed:
    version = run.run(sql.SQL("SELECT current_setting('server_version_num')::integer AS number"))[0]["number"]
    template = "pg_column_toast_chunk_id(d.{}) IS NOT NULL" if version >= _SAYS_WHAT_IS_EXTERNAL else "false"
    return _each(template, columns, only_varlena="false")


def _rows(
    run: Runner, table: Table, facts: Record, sample: Sequence[Any], waits: sql.Composable, *, exact: bool
) -> tuple[int, int]:
    """Return how many rows there are and how many wait: counted, or by the sample's rows a page."""
    if exact:
        counted = run.run(files.query("plan", "count", table=table.identifier, waits=waits))[0]
        return counted["total"], counted["waiting"]
    found = [waiting for page in sample for _, waiting in page]
    everything = facts["pages"] <= SAMPLE_PAGES
    a_page = len(found) / len(sample) if sample else 0
    rows = len(found) if everything else round(max(facts["estimated_rows"], 0) or a_page * facts["pages"])
    return rows, round(rows * sum(found) / len(found)) if found else 0


def _with_compression(run: Runner, table: Table, columns: list[Column], percent: float) -> tuple[list[Column], bool]:
    """Return the columns with what compressing leaves of their values, and whether it could be tried.

    The trial needs a temporary table: not to be had on a standby, or without the privilege.
    """
    if run.run(sql.SQL("SELECT pg_is_in_recovery() AS standby"))[0]["standby"]:
        return columns, False
    texts = [column for column in columns if column.length < 0 and column.storage == "x"]
    if not texts:
        return columns, True
    with contextlib.suppress(DatabaseError), run.transaction():
        shrinks = _try_compressing(run, table, texts, percent)
        return [replace(column, shrink=shrinks.get(column.name, 1.0)) for column in columns], True
    return columns, False


def _try_compressing(run: Runner, table: Table, texts: list[Column], percent: float) -> dict[str, float]:
    names = [column.name for column in texts]
    own = {"before": _unlike(names, "before"), "filler": _unlike(names, "filler")}
    sampled = {"table": table.identifier, "percent": sql.Literal(percent), "seed": sql.Literal(_SEED)}
    run.run(files.query("plan", "make_trial", columns=_each("d.{}", texts), table=table.identifier, **own))
    run.run(files.query("plan", "fill_rows", filler=own["filler"]))
    values = sql.SQL(", ").join(files.query("plan", "not_compressed", column=name) for name in names)
    run.run(
        files.query("plan", "try_compressing", values=values, sizes=_each("pg_column_size(d.{})", texts), **sampled)
    )
    found = {}
    for number, name in enumerate(names, 1):
        (sizes,) = run.run(
            files.query("plan", "trial_sizes", column=name, before=own["before"], number=sql.Literal(number))
        )
        if sizes["before"]:
            found[name] = min(sizes["after"] / sizes["before"], 1.0)
    return found


def _unlike(names: Sequence[str], wanted: str) -> str:
    while wanted in names:
        wanted += "_"
    return wanted
