"""The plan of a version: which layout, why, and what either costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from pgvmig import hazards, names
from pgvmig.address import Address
from pgvmig.planning import advice, costs, facts, pages, tuples
from pgvmig.planning.advice import Warning  # noqa: A004
from pgvmig.planning.costs import Churn, Cost, Work
from pgvmig.runner import Runner

# Rows of a transaction; a smaller table than so many pages has several of a page in one.
BATCH = 64
EVERY_ROW = sql.SQL("true")


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """What of a contract a plan needs."""

    dimensions: int
    vector_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What the sampled pages look like: means, sizes in bytes."""

    pages: int
    rows_per_page: float
    row_bytes: float
    row_bytes_with_vector: float
    free_bytes_per_page: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to choose and what it costs. `rows` of the table, `waiting` of them without a vector of the version."""

    target: str
    version: str
    dimensions: int
    vector_type: str
    recommended: str
    reasons: list[str]
    rows: int
    waiting: int
    exact: bool
    rate: float | None
    sample: Sample
    column: Cost
    table: Cost
    churn: list[Churn]
    index_memory: int
    triggers: list[hazards.Trigger]
    publications: list[hazards.Publication]
    warnings: list[Warning]


def make(
    run: Runner,
    where: Address,
    space: Space,
    *,
    key: list[str],
    waits: sql.Composable = EVERY_ROW,
    own: Sequence[str] = (),
    exact: bool = False,
    rate: float | None = None,
) -> Plan:
    """Return the plan of a version; `key` are the key's columns.

    `waits` says of a row `d` whether it has no vector yet; `own` are the version's vector column and the three of
    provenance where they are in the table already. `rate` is how many rows a second the provider embeds, None where
    only the database's own speed is asked for.
    """
    known = facts.gather(run, where, waits=waits, own=own, exact=exact)
    rows, stored = _with_vectors(known, space, own)
    played = pages.play(rows, block=known.table["block_size"], fillfactor=known.table["fillfactor"], batch=BATCH)
    work = _work(known, space, stored, played, rate)
    column = costs.column_cost(work, known.indexes)
    case = _case(run, where, known, column, costs.hnsw_memory(known.rows, work.vector))
    recommended, reasons = advice.recommend(case)
    return Plan(
        target=where.label.rpartition(" ")[0],
        version=where.version,
        dimensions=space.dimensions,
        vector_type=space.vector_type,
        recommended=recommended,
        reasons=reasons,
        rows=known.rows,
        waiting=known.waiting,
        exact=known.exact,
        rate=rate,
        sample=_shape(rows, played),
        column=column,
        table=_table_cost(known, work, space, key),
        churn=costs.churn(work, column, known.indexes),
        index_memory=case.memory,
        triggers=known.triggers,
        publications=known.publications,
        warnings=advice.warnings(case),
    )


def _with_vectors(
    known: facts.Facts, space: Space, own: Sequence[str]
) -> tuple[list[list[pages.PageRow]], list[tuples.Stored]]:
    """Return the sampled pages with each row's length now and with a vector, and how waiting rows are stored then."""
    columns, values = tuples.added_columns(space.dimensions, space.vector_type)
    kept = [i for i, column in enumerate(known.columns) if column.name not in own]
    after = [*(known.columns[i] for i in kept), *columns]
    target = known.table["toast_tuple_target"]
    made: list[list[pages.PageRow]] = []
    stored: list[tuples.Stored] = []
    for page in known.sample:
        made.append([])
        for row, waits in page:
            new = tuples.written(after, [*(row[i] for i in kept), *values], target)
            made[-1].append(pages.PageRow(tuples.present(known.columns, row), new.size, waits))
            stored += [new] * waits
    return made, stored


def _work(
    known: facts.Facts, space: Space, stored: list[tuples.Stored], played: pages.Played, rate: float | None
) -> Work:
    indexed = any(index.on_vector for index in known.indexes)
    return Work(
        rows=known.waiting,
        pages=known.table["pages"],
        block=known.table["block_size"],
        image=known.table["block_size"] - round(_mean(played.free)),
        vector=tuples.vector_size(space.dimensions, space.vector_type),
        stored=stored,
        # PostgreSQL never makes an update HOT that changes an indexed column
        hot_share=0.0 if indexed else played.hot_share,
        moved_size=played.moved_bytes / played.moved if played.moved else 0.0,
        rate=rate,
    )


def _table_cost(known: facts.Facts, work: Work, space: Space, key: list[str]) -> Cost:
    """Return the table layout's cost, with keys as long as the sample's first."""
    positions = [i for i, column in enumerate(known.columns) if column.name in key]
    first = next((row for page in known.sample for row, _ in page), None)
    values = [first[i] if first else tuples.Value(8) for i in positions]
    columns, added = tuples.added_columns(space.dimensions, space.vector_type)
    row = tuples.written([*(known.columns[i] for i in positions), *columns], [*values, *added])
    return costs.table_cost(work, row, sum(value.size for value in values if value))


def _case(run: Runner, where: Address, known: facts.Facts, column: Cost, memory: int) -> advice.Case:
    heap = known.table["heap_bytes"]
    leaking = any(publication.leaks_columns for publication in known.publications)
    return advice.Case(
        subject=where.label,
        table=names.label(where.table.name, names.DEFAULT_SLOT, where.table.schema),
        facts={**known.table, "compression_known": known.compression_known},
        column=column,
        growth=column.table_bytes / heap if heap else 0.0,
        indexes=known.indexes,
        triggers=known.triggers,
        publications=known.publications,
        memory=memory,
        publication_advice=hazards.publication_advice(run, where, "column") if leaking else None,
    )


def _shape(rows: Sequence[Sequence[pages.PageRow]], played: pages.Played) -> Sample:
    each = [row for page in rows for row in page]
    return Sample(
        pages=played.pages,
        rows_per_page=round(len(each) / max(played.pages, 1), 1),
        row_bytes=round(_mean([row.size for row in each])),
        row_bytes_with_vector=round(_mean([row.with_vector for row in each])),
        free_bytes_per_page=round(_mean(played.free)),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
