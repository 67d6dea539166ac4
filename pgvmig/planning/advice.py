"""Which layout to choose, why, and what to look after. Pure: words for figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pgvmig.hazards import Publication, Trigger
from pgvmig.planning.costs import Cost, Index

# Below this share of HOT updates, or beyond this growth of its heap, a table is spared by the table layout.
ENOUGH_HOT = 0.8
TOO_MUCH_GROWTH = 0.2
VECTOR_METHODS = ("hnsw", "ivfflat")
# A snapshot that is open so long keeps dead versions on their pages, which is where the next ones have to go.
_LONG = 60.0
_NEARLY = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Warning:  # noqa: A001  # what it is called in the output
    """Something to look after: what was found, why it matters, what to do."""

    found: str
    hazard: str
    next: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """All that the advice rests on; `subject` is target and version, `growth` how much the heap grows (1: doubled)."""

    subject: str
    table: str
    facts: dict[str, Any]
    column: Cost
    growth: float
    indexes: Sequence[Index]
    triggers: Sequence[Trigger]
    publications: Sequence[Publication]
    memory: int
    publication_advice: str | None


def recommend(case: Case) -> tuple[str, list[str]]:
    """Return the layout to choose, and the reasons."""
    reasons = [*_for_the_table(case)]
    return ("table", reasons) if reasons else ("column", _for_the_column(case))


def _for_the_table(case: Case) -> Iterator[str]:
    share = case.column.hot_share or 0.0
    vector_indexes = [index for index in case.indexes if index.method in VECTOR_METHODS and not index.on_vector]
    leaking = [str(p) for p in case.publications if p.leaks_columns]
    if leaking and not any(p.leaks_table for p in case.publications):
        yield f"{listed(leaking)} would send the new columns to subscribers that lack them"
    rows = [trigger.name for trigger in case.triggers if trigger.level == "ROW"]
    if rows:
        yield f"every row's update would fire {listed(rows)}"
    if case.facts["identity_full"]:
        yield "REPLICA IDENTITY FULL makes every update log the whole old row as well"
    if any(index.on_vector for index in case.indexes):
        yield "its vector column has an index already, and no update of an indexed column is HOT"
    elif share < ENOUGH_HOT and vector_indexes:
        names = listed([index.name for index in vector_indexes])
        yield f"only {percent(share)} of the updates would be HOT, and the others write into {names} again"
    elif case.growth > TOO_MUCH_GROWTH and share < ENOUGH_HOT:
        yield f"only {percent(share)} of the updates would be HOT, and the table would grow by {percent(case.growth)}"


def _for_the_column(case: Case) -> list[str]:
    spared = listed([index.name for index in case.indexes]) if case.indexes else "no index"
    return [
        f"{percent(case.column.hot_share or 0.0)} of the updates would be HOT and leave {spared} alone",
        "searches read one table, without a join",
    ]


def warnings(case: Case) -> list[Warning]:
    """Return what to look after, the gravest first."""
    return [*_subscribers(case), *_triggers(case), *_partitions(case), *_pruning(case), *_server(case)]


def _subscribers(case: Case) -> Iterator[Warning]:
    leaking = [p for p in case.publications if p.leaks_columns]
    if leaking:
        lacking = "columns and the side table" if any(p.leaks_table for p in leaking) else "columns"
        yield Warning(
            found=f"{case.table} is published by {listed([str(p) for p in leaking])} without a column list",
            hazard=f"Subscribers lack the {lacking} that {case.subject} adds, and stop",
            next=case.publication_advice or "",
        )
    if case.facts["identity_full"]:
        yield Warning(
            found=f"{case.table} has REPLICA IDENTITY FULL",
            hazard="Every update logs the whole old row, its TOAST values included, and no column list helps",
            next=f'layout="table", or ALTER TABLE {case.table} REPLICA IDENTITY DEFAULT',
        )


def _triggers(case: Case) -> Iterator[Warning]:
    if case.triggers:
        yield Warning(
            found=f"In the column layout every batch fires {listed([str(trigger) for trigger in case.triggers])}",
            hazard="Rows that nobody changed get a new updated_at, an audit entry or a message, and a trigger that "
            "changes an indexed column leaves no update HOT",
            next='layout="table", or let them return at once where only pgvmig\'s columns change',
        )


def _partitions(case: Case) -> Iterator[Warning]:
    number = case.facts.get("partitions", 0)
    if number > 1:
        yield Warning(
            found=f"{case.table} has {number:,} partitions, and in the column layout an index of each",
            hazard="A search that does not say which partition it is about reads all of them",
            next='layout="table", whose side table has one index of all vectors, unless searches name their partition',
        )


def _pruning(case: Case) -> Iterator[Warning]:
    oldest = case.facts["oldest_snapshot"]
    if oldest is not None and float(oldest) > _LONG:
        yield Warning(
            found=f"A transaction of this database has been open for {duration(float(oldest))}",
            hazard="Until it ends no page is pruned, and in the column layout hardly an update is HOT",
            next="let it end before the backfill: SELECT pid, xact_start, query FROM pg_stat_activity "
            "WHERE backend_xmin IS NOT NULL ORDER BY xact_start",
        )
    if (case.column.hot_share or 0.0) < ENOUGH_HOT and case.facts["fillfactor"] > 60:  # noqa: PLR2004
        each = f"a partition of {case.table}" if case.facts.get("relkind") == "p" else case.table
        yield Warning(
            found=f"The pages of {case.table} have little room (fillfactor {case.facts['fillfactor']})",
            hazard="What finds no room leaves its page and is written into every index again",
            next=f'layout="table"; ALTER TABLE {each} SET (fillfactor = 60) helps only rows written after it',
        )
    if not case.facts["autovacuum"]:
        yield Warning(
            found=f"Autovacuum is off for {case.table}",
            hazard="What the backfill leaves dead, in the table and in every index, stays there",
            next=f"VACUUM {case.table} during and after the backfill, or turn it on",
        )
    if case.facts["frozen_age"] > _NEARLY * case.facts["freeze_max_age"]:
        yield Warning(
            found=f"{case.table} is {case.facts['frozen_age']:,} transactions old",
            hazard="An anti-wraparound vacuum is near, and the worker waits for its end",
            next=f"VACUUM (FREEZE) {case.table} before the backfill",
        )


def _server(case: Case) -> Iterator[Warning]:
    if not case.facts["compression_known"]:
        yield Warning(
            found="Whether the texts can be compressed was not tried, which needs a temporary table",
            hazard="Rows that get shorter by it leave more room than is counted on",
            next="ask on the primary, as a role that has TEMPORARY on the database",
        )
    if case.facts["row_security"]:
        yield Warning(
            found=f"{case.table} has row-level security",
            hazard="Whoever runs workers and gates must see every row, or they stop",
            next="run them as the table's owner or with BYPASSRLS; views and a side table follow the table's policies",
        )
    if case.memory > case.facts["maintenance_work_mem"]:
        yield Warning(
            found=f"The new HNSW index needs {size(case.memory)} to be built in memory, "
            f"maintenance_work_mem is {size(case.facts['maintenance_work_mem'])}",
            hazard="Beyond it the build goes on many times slower",
            next=f"PGOPTIONS='-c maintenance_work_mem={_megabytes(case.memory)}MB' alembic upgrade +1 for its revision",
        )


def listed(names: Sequence[str]) -> str:
    """Return `a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def percent(share: float) -> str:
    """Return `89 %`."""
    return f"{100 * share:.0f} %"


def size(count: float) -> str:
    """Return bytes as people read them: `1.2 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:  # noqa: PLR2004
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"  # noqa: PLR2004
        count /= 1024
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    """Return a time span as people read it: `2 h 05 min`."""
    whole = round(seconds)
    if whole < 120:  # noqa: PLR2004
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"  # noqa: PLR2004
    if whole < 7200:  # noqa: PLR2004
        return f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def _megabytes(count: int) -> int:
    return -(-count // 1024**2)
