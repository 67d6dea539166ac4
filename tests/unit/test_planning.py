"""The plan's arithmetic: tuples, TOAST, pages, costs, and the words for them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pgvmig.hazards import Publication, Trigger
from pgvmig.planning import advice, costs, pages, tuples
from pgvmig.planning.advice import Case
from pgvmig.planning.costs import Cost, Index, Work
from pgvmig.planning.pages import PageRow
from pgvmig.planning.tuples import Column, Stored, Value

ID, TEXT = Column("id", 8, 8, "p"), Column("body", -1, 4)
VECTOR = Column("vector", -1, 4, "e")


@pytest.mark.parametrize(
    ("columns", "row", "size"),
    [
        ([ID], [Value(8)], 24 + 8),
        ([Column("flag", 1, 1), ID], [Value(1), Value(8)], 24 + 8 + 8),  # padding before the bigint
        ([Column("flag", 1, 1), TEXT], [Value(1), Value(101)], 24 + 1 + 101),  # a short text has none
        ([Column("flag", 1, 1), TEXT], [Value(1), Value(204)], 24 + 4 + 204),
        ([Column("flag", 1, 1), TEXT], [Value(1), Value(9000, external=True)], 24 + 1 + 18),
        ([ID, TEXT], [Value(8), None], 24 + 8),  # eight columns' bitmap fits into the header's padding
        ([ID] * 9, [Value(8)] * 8 + [None], 32 + 64),
    ],
)
def test_the_length_of_a_tuple(columns, row, size):
    assert tuples.tuple_size(columns, row) == size


@pytest.mark.parametrize(
    ("text", "vector", "stored"),
    [
        (400, 1544, Stored(24 + 8 + 400 + 1544)),  # fits
        (800, 1544, Stored(24 + 8 + 800 + 18, 1544)),  # the vector is the longest and goes
        (1700, 1544, Stored(24 + 8 + 18 + 2 + 1544, 1700)),  # now the text is
        (900, 6152, Stored(24 + 8 + 900 + 18, 6152)),
        (5000, 6152, Stored(24 + 8 + 18 + 18, 5000 + 6152)),
    ],
)
def test_what_the_toaster_moves_out(text, vector, stored):
    assert tuples.written([ID, TEXT, VECTOR], [Value(8), Value(text), Value(vector)]) == stored


def test_a_text_is_compressed_before_anything_is_moved_out():
    columns = [ID, replace(TEXT, shrink=0.4), VECTOR]
    row = [Value(8), Value(900), Value(1544)]
    assert tuples.written(columns, row) == Stored(24 + 8 + 360 + 1544)
    compressed = [Value(8), Value(900, compressed=True), Value(1544)]
    assert tuples.written(columns, compressed).toasted == 1544


def test_what_lies_outside_already_is_not_written_again():
    row = [Value(8), Value(5000, external=True), Value(1544)]
    assert tuples.written([ID, TEXT, VECTOR], row) == Stored(24 + 8 + 18 + 2 + 1544)


def test_a_row_that_is_longer_than_any_can_be_lies_outside():
    """PostgreSQL 16 does not say which values are external."""
    assert tuples.present([ID, TEXT], [Value(8), Value(5000)]) == 24 + 8 + 18


def test_columns_that_came_later_are_not_in_a_row():
    assert tuples.present([ID] * 12, [Value(8), *[None] * 11]) == 24 + 8


def page(count, size, with_vector, waits=True):
    return [PageRow(size, with_vector, waits)] * count


def test_the_first_row_leaves_its_page_and_makes_room_for_the_others():
    # nine rows of 856 bytes on a page leave 428: the measured 89 %
    played = pages.play([page(9, 850, 904)] * 64)
    assert (played.hot, played.moved) == (8 * 64, 64)
    assert played.hot_share == pytest.approx(8 / 9)


def test_a_page_with_room_keeps_all():
    assert pages.play([page(6, 850, 904)] * 64).hot_share == 1


def test_growth_eats_the_room():
    assert pages.play([page(30, 240, 1840)] * 64).hot_share < 0.2


def test_of_a_few_pages_one_transaction_writes_several_rows():
    """Their dead versions are in nobody's way until it has ended."""
    few, many = pages.play([page(9, 850, 904)] * 4, batch=64), pages.play([page(9, 850, 904)] * 64, batch=64)
    assert few.hot_share < many.hot_share


def test_the_longest_row_leaves_first():
    rows = [PageRow(1900, 1956), *page(7, 800, 856)]
    assert pages.play([rows] * 64).moved == 64
    assert pages.play([rows] * 64).moved_bytes == 64 * (1960 + 4)


def test_rows_that_have_their_vector_stay_where_they_are():
    played = pages.play([page(9, 850, 904, waits=False)] * 3)
    assert (played.hot, played.moved, played.rows, played.hot_share) == (0, 0, 27, 1.0)


WORK = Work(
    rows=10_000, pages=1112, block=8192, image=7764, vector=1544, stored=[Stored(904, 1544)], hot_share=8 / 9,
    moved_size=908, rate=None,
)  # fmt: skip
HNSW = Index(name="old", method="hnsw", bytes=20_000_000, dimensions=384, on_vector=False)
KEY = Index(name="pkey", method="btree", bytes=250_000, dimensions=None, on_vector=False)


def test_the_measured_table():
    """DESIGN's 10,000 rows of 800 characters: 3,669 bytes of WAL a row striped, 5,584 in key order."""
    striped = costs.column_cost(WORK, [HNSW, KEY])
    in_key_order = costs.column_cost(replace(WORK, hot_share=0.004), [HNSW, KEY])
    assert striped.wal_bytes / 10_000 == pytest.approx(3_669, rel=0.15)
    assert in_key_order.wal_bytes / 10_000 == pytest.approx(5_584, rel=0.15)
    assert striped.rows_per_second > 3 * in_key_order.rows_per_second
    assert striped.table_bytes < 0.2 * 1112 * 8192
    side = costs.table_cost(WORK, Stored(24 + 8 + 1544 + 48), key_bytes=8)
    assert side.wal_bytes / 10_000 == pytest.approx(1_661, rel=0.1)
    assert side.rows_per_second > 3 * striped.rows_per_second


@pytest.mark.parametrize(("vector", "per_row"), [(40, 338), (1544, 2050), (3080, 4098), (6152, 8194)])
def test_the_size_of_an_hnsw_index_as_measured(vector, per_row):
    assert costs.hnsw_bytes(3000, vector) / 3000 == pytest.approx(per_row, rel=0.02)


@pytest.mark.parametrize(("vector", "fit"), [(40, 2812), (1544, 933), (3080, 554), (6152, 306)])
def test_the_memory_of_its_build_as_measured(vector, fit):
    """So many tuples fitted into 2 MB."""
    assert costs.hnsw_memory(fit, vector) == pytest.approx(2 * 1024**2, rel=0.01)


@pytest.mark.parametrize(("size", "per_row"), [(1544, 1671), (6152, 8288)])
def test_the_size_of_a_toast_table_as_measured(size, per_row):
    cost = costs.column_cost(replace(WORK, stored=[Stored(136, size)] * 500), [])
    assert cost.toast_bytes / 10_000 == pytest.approx(per_row, rel=0.03)


def test_the_provider_sets_the_pace_where_it_is_slower():
    slow = replace(WORK, rate=50)
    cost = costs.column_cost(slow, [HNSW])
    assert cost.seconds == 200
    (old, _) = costs.churn(slow, cost, [HNSW, KEY])
    assert (old.index, old.entries, old.entries_per_second) == ("old", 1111, 5.6)


def test_nothing_to_write_costs_nothing():
    nothing = replace(WORK, rows=0, pages=0, stored=[], hot_share=1.0, moved_size=0.0)
    cost = costs.column_cost(nothing, [HNSW])
    assert (cost.wal_bytes, cost.disk_bytes, cost.seconds) == (0, 0, 0)
    assert costs.table_cost(nothing, Stored(1600), 8).disk_bytes == 0


def test_updates_of_an_indexed_column_that_stay_on_their_page():
    cost = costs.column_cost(replace(WORK, rows=1, hot_share=0.0, moved_size=0.0), [HNSW])
    assert cost.table_bytes == 0


FACTS = {
    "identity_full": False, "oldest_snapshot": None, "fillfactor": 100, "autovacuum": True, "frozen_age": 100,
    "freeze_max_age": 200_000_000, "row_security": False, "compression_known": True,
    "maintenance_work_mem": 64 * 1024**2,
}  # fmt: skip
COST = Cost(
    layout="column", hot_share=0.89, wal_bytes=1, table_bytes=1, toast_bytes=1, index_bytes=1, rows_per_second=1,
    seconds=1,
)  # fmt: skip
CASE = Case(
    subject="documents v2", table="documents", facts=FACTS, column=COST, growth=0.1, indexes=[HNSW, KEY], triggers=[],
    publications=[], memory=1024, publication_advice=None,
)  # fmt: skip
TRIGGER = Trigger(name="touch", function="set_updated_at", moment="BEFORE", level="ROW", condition=None)
PUBLICATION = Publication(publication="docs", scope="table", columns=[], leaks_columns=True, leaks_table=False)
LOW = replace(COST, hot_share=0.3)


@pytest.mark.parametrize(
    ("case", "layout", "reasons"),
    [
        (CASE, "column", [
            "89 % of the updates would be HOT and leave old and pkey alone", "searches read one table, without a join",
        ]),
        (replace(CASE, column=LOW), "table", [
            "only 30 % of the updates would be HOT, and the others write into old again",
        ]),
        (replace(CASE, column=LOW, indexes=[KEY], growth=0.7), "table", [
            "only 30 % of the updates would be HOT, and the table would grow by 70 %",
        ]),
        (replace(CASE, triggers=[TRIGGER]), "table", ["every row's update would fire touch"]),
        (replace(CASE, triggers=[replace(TRIGGER, level="STATEMENT")]), "column", None),
        (replace(CASE, publications=[PUBLICATION]), "table", [
            "docs would send the new columns to subscribers that lack them",
        ]),
        (replace(CASE, publications=[replace(PUBLICATION, leaks_table=True)]), "column", None),
        (replace(CASE, facts={**FACTS, "identity_full": True}), "table", [
            "REPLICA IDENTITY FULL makes every update log the whole old row as well",
        ]),
        (replace(CASE, column=LOW, indexes=[replace(HNSW, on_vector=True)]), "table", [
            "its vector column has an index already, and no update of an indexed column is HOT",
        ]),
    ],
)  # fmt: skip
def test_the_recommendation(case, layout, reasons):
    found, why = advice.recommend(case)
    assert found == layout
    assert reasons is None or why == reasons


WARNINGS = {
    "a long transaction": (
        replace(CASE, facts={**FACTS, "oldest_snapshot": 4000.0}),
        (
            "A transaction of this database has been open for 66 min. Until it ends no page is pruned, "
            "and in the column layout hardly an update is HOT. Next: let it end before the backfill: "
            "SELECT pid, xact_start, query FROM pg_stat_activity WHERE backend_xmin IS NOT NULL ORDER BY "
            "xact_start"
        ),
    ),
    "triggers": (
        replace(CASE, triggers=[TRIGGER]),
        (
            "In the column layout every batch fires touch (BEFORE ROW, set_updated_at). Rows that nobody "
            "changed get a new updated_at, an audit entry or a message, and a trigger that changes an "
            'indexed column leaves no update HOT. Next: layout="table", or let them return at once where '
            "only pgvmig's columns change"
        ),
    ),
    "a publication": (
        replace(CASE, publications=[PUBLICATION], publication_advice="do this"),
        (
            "documents is published by docs without a column list. Subscribers lack the columns that "
            "documents v2 adds, and stop. Next: do this"
        ),
    ),
    "REPLICA IDENTITY FULL": (
        replace(CASE, facts={**FACTS, "identity_full": True}),
        (
            "documents has REPLICA IDENTITY FULL. Every update logs the whole old row, its TOAST values "
            'included, and no column list helps. Next: layout="table", or ALTER TABLE documents REPLICA '
            "IDENTITY DEFAULT"
        ),
    ),
    "no room": (
        replace(CASE, column=LOW),
        (
            "The pages of documents have little room (fillfactor 100). What finds no room leaves its "
            'page and is written into every index again. Next: layout="table"; ALTER TABLE documents SET '
            "(fillfactor = 60) helps only rows written after it"
        ),
    ),
    "no autovacuum": (
        replace(CASE, facts={**FACTS, "autovacuum": False}),
        (
            "Autovacuum is off for documents. What the backfill leaves dead, in the table and in every "
            "index, stays there. Next: VACUUM documents during and after the backfill, or turn it on"
        ),
    ),
    "an old table": (
        replace(CASE, facts={**FACTS, "frozen_age": 190_000_000}),
        (
            "documents is 190,000,000 transactions old. An anti-wraparound vacuum is near, and the "
            "worker waits for its end. Next: VACUUM (FREEZE) documents before the backfill"
        ),
    ),
    "row-level security": (
        replace(CASE, facts={**FACTS, "row_security": True}),
        (
            "documents has row-level security. Whoever runs workers and gates must see every row, or "
            "they stop. Next: run them as the table's owner or with BYPASSRLS; views and a side table "
            "follow the table's policies"
        ),
    ),
    "no trial": (
        replace(CASE, facts={**FACTS, "compression_known": False}),
        (
            "Whether the texts can be compressed was not tried, which needs a temporary table. Rows that get shorter "
            "by it leave more room than is counted on. Next: ask on the primary, as a role that has TEMPORARY on the "
            "database"
        ),
    ),
    "memory": (
        replace(CASE, memory=3 * 1024**3),
        (
            "The new HNSW index needs 3.0 GB to be built in memory, maintenance_work_mem is 64.0 MB. "
            "Beyond it the build goes on many times slower. Next: PGOPTIONS='-c "
            "maintenance_work_mem=3072MB' alembic upgrade +1 for its revision"
        ),
    ),
}


@pytest.mark.parametrize("what", WARNINGS)
def test_what_to_mind(what):
    case, text = WARNINGS[what]
    assert [f"{w.found}. {w.hazard}. Next: {w.next}" for w in advice.warnings(case)] == [text]


def test_nothing_to_mind():
    assert advice.warnings(CASE) == []


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (150_000, "146 kB"), (3 * 1024**4, "3.0 TB")]
)
def test_sizes_for_people(count, text):
    assert advice.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.25, "0.2 s"), (45, "45 s"), (300, "5 min"), (7500, "2 h 05 min"), (90_000, "25 h 00 min")]
)
def test_durations_for_people(seconds, text):
    assert advice.duration(seconds) == text
