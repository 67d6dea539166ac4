"""The column layout and the table's pages: which updates stay on their page, and what the worker knows of it."""

from datetime import timedelta
from uuid import uuid4

import pytest
from lifecycle import add_version

from pgvmig.backfill.lane import Lane
from pgvmig.backfill.runs import RunLog
from pgvmig.layouts.layout import open_layout
from pgvmig.pacing.pacer import Unpaced

# Two passages of it compress to nothing: rows of realistic and different lengths, about eight of them a page.
TEXT = "(SELECT string_agg(md5(random()::text), ' ') FROM generate_series(1, 12 + i % 24))"


@pytest.fixture
def documents(site):
    site.execute("CREATE TABLE documents (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text, note text)")
    site.execute(f"INSERT INTO documents (body) SELECT {TEXT} FROM generate_series(1, 1500) AS i")


@pytest.mark.majors(18, 16)
def test_hot_updates_are_counted_in_the_workers_own_transactions(site, documents):
    version = site.version()
    # somebody else's, on the same table, none of them HOT
    site.execute("CREATE INDEX ON documents (note)")
    site.execute("UPDATE documents SET note = 'x' WHERE id % 10 = 0")
    counters = site.run().versions["documents v2"]
    site.execute("SELECT pg_stat_force_next_flush()")
    updated, hot = site.execute(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'documents'"
    ).fetchone()
    assert (counters.updated, counters.hot) == (1500, hot)
    assert updated == 1650
    assert site.execute("SELECT rows_updated, rows_hot FROM pgvmig.backfill_run").fetchall() == [(1500, hot)]
    assert site.problems(version) == []


def test_most_updates_are_hot_at_the_default_fillfactor(site, documents):
    version = site.version()
    counters = site.run(batch_size=16).versions["documents v2"]
    assert counters.hot >= 0.75 * counters.updated
    assert site.problems(version) == []


def test_a_table_of_vectors_has_no_such_figure(site):
    site.documents(3)
    with site.connection.transaction():
        add_version(site.connection, "documents", "v2", layout="table")
    counters = site.run().versions["documents v2"]
    assert (counters.written, counters.updated, counters.hot) == (3, None, None)
    assert site.execute("SELECT rows_updated, rows_hot FROM pgvmig.backfill_run").fetchall() == [(None, None)]


def test_a_long_value_is_measured_by_its_pointer(site):
    site.documents()
    site.execute("ALTER TABLE documents ALTER body SET STORAGE EXTERNAL")
    site.execute("INSERT INTO documents (body) VALUES ('short'), (repeat('long', 10000)), (repeat('middling', 50))")
    layout = open_layout(site.connection, site.version())
    rooms = [place.room for place in layout.missing(site.connection, 0, 1)]
    assert sorted(rooms, reverse=True) == [rooms[2], rooms[1], rooms[0]]


def test_a_column_that_is_renamed_meanwhile_does_no_harm(site):
    site.documents(3)
    layout = open_layout(site.connection, site.version())
    site.execute('ALTER TABLE documents RENAME note TO "odd % name"')
    assert len(layout.missing(site.connection, 0, 1)) == 3


def test_a_batch_that_shrinks_meanwhile_is_cut(site):
    """The stripes that were read keep their order; nothing is lost between two sizes."""
    site.documents(40)
    sizes = iter([16, 16, 16, 5] + [5] * 100)
    lane = Lane(
        site.connection,
        site.version(),
        RunLog(uuid4()),
        lease=timedelta(minutes=1),
        batch_size=lambda: next(sizes),
        stop=lambda: False,
    )
    lane.begin(asked=False)
    batches = []
    while (batch := lane.next_batch()) is not None and batch.to_embed:
        batches.append(batch)
    found = [row.key for batch in batches for row in batch.to_embed]
    assert sorted(map(int, (key for (key,) in found))) == list(range(1, 41))
    assert max(len(batch.to_embed) for batch in batches[1:]) <= 5
    for batch in batches:
        assert site.value("SELECT count(*) FROM pgvmig.lease WHERE first_block < last_block") == 1
        lane.settle(batch)
    assert site.value("SELECT count(*) FROM pgvmig.lease") == 0


def test_a_request_may_hold_more_than_a_transaction(site):
    """Small transactions, for the sake of others, must not make many small requests: those cost money and time."""
    site.documents(100)
    version = site.version()
    site.execute("CREATE TABLE writes (xid xid8, id bigint)")
    site.execute(
        "CREATE FUNCTION note_write() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN INSERT INTO writes VALUES (pg_current_xact_id(), NEW.id); RETURN NULL; END'"
    )
    site.execute("CREATE TRIGGER note AFTER UPDATE ON documents FOR EACH ROW EXECUTE FUNCTION note_write()")
    counters = site.run(pacer=lambda _: Unpaced(batch_size=10)).versions["documents v2"]
    asked = [len(request.texts) for request in site.server.requests]
    assert (max(asked), sum(asked)) == (64, 100)
    assert site.value("SELECT max(n) FROM (SELECT count(*) AS n FROM writes GROUP BY xid) AS w") <= 10
    assert (counters.written, counters.batches) == (100, 11)
    assert site.problems(version) == []
