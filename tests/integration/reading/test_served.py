"""What the search helper says of a rollout: which version a key goes to, and how many searches each has answered."""

import psycopg
import pytest
from psycopg import sql
from searching import Pool

from pgvmig.errors import NotFoundError
from pgvmig.reading import Searcher
from pgvmig.served import Served

# One layout: what is counted does not depend on where vectors are.


@pytest.fixture
def rollout(connection, versions):
    """alice is served by v2."""
    every = connection.execute(
        "SELECT array_agg(substr(proname, 6)) FROM pg_proc "
        r"WHERE pronamespace = 'pgvmig'::regnamespace AND proname LIKE 'gate\_%'"
    ).fetchone()[0]
    connection.execute(
        "SELECT pgvmig.set_route('documents', 'v2', 0, add_keys => '{alice}', skip => %s, reason => 'a test')", (every,)
    )
    return connection


def reported(connection):
    return connection.execute(
        "SELECT version, value FROM pgvmig.production_metric JOIN pgvmig.version USING (version_id) "
        "WHERE metric = 'served' ORDER BY at, version"
    ).fetchall()


def test_a_key_is_searched_in_its_version_and_both_are_counted(database, rollout, embedders):
    with Searcher(database.connect(), "documents", open_embedder=embedders, report_every=3600) as searcher:
        assert [searcher.search("q", key=key).version for key in ("alice", "bob", "alice", None)] == [
            "v2",
            "v1",
            "v2",
            "v1",
        ]
        assert [searcher.route(key) for key in ("alice", "bob", None)] == ["v2", "v1", "v1"]
        assert reported(rollout) == []
        assert searcher.flush() is True
        assert sorted(reported(rollout)) == [("v1", 2), ("v2", 2)]
        searcher.search("q", key="alice")
    assert sorted(reported(rollout)) == [("v1", 2), ("v2", 1), ("v2", 2)]


def test_one_report_in_an_interval(database, rollout, embedders):
    with Searcher(Pool(database), "documents", open_embedder=embedders, report_every=0.0) as searcher:
        searcher.search("q")
        assert reported(rollout) == [("v1", 1)]
    with Searcher(Pool(database), "documents", open_embedder=embedders) as searcher:
        searcher.search("q")
    assert reported(rollout) == [("v1", 1)]
    now = [0.0]
    served = Served(10, clock=lambda: now[0])
    served.count("v1")
    assert [(now.__setitem__(0, at), served.due())[1] for at in (9.9, 10, 10.1, 19.9, 20)] == [
        False,
        True,
        False,
        False,
        True,
    ]


def test_nothing_is_written_into_the_callers_transaction(database, rollout, embedders):
    reader = database.connect(autocommit=False)
    with Searcher(reader, "documents", open_embedder=embedders, report_every=0.0) as searcher:
        with reader.transaction():
            searcher.search("q")
            assert searcher.flush() is False
            raise psycopg.Rollback
        assert reported(rollout) == []
        searcher.search("q")
        assert reported(rollout) == [("v1", 2)]


def test_a_report_that_fails_fails_no_search(database, rollout, embedders, caplog):
    role = f"{rollout.info.dbname}_service"
    rollout.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
    try:
        rollout.execute(sql.SQL("GRANT SELECT ON documents, documents_v1 TO {}").format(sql.Identifier(role)))
        reader = database.connect()
        reader.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
        searcher = Searcher(reader, "documents", open_embedder=embedders, report_every=0.0)
        assert searcher.search("q").version == "v1"  # no right to report: asked for first, and no error
        rollout.execute("ALTER TABLE pgvmig.production_metric RENAME TO gone")
        reader.execute("RESET ROLE")
        assert searcher.search("q").version == "v1"
        assert "could not be reported" in caplog.text
        rollout.execute("ALTER TABLE pgvmig.gone RENAME TO production_metric")
        assert searcher.flush() is True
        assert reported(rollout) == [("v1", 2)]
        searcher.search("q")
        reader.close()
        searcher.close()
    finally:
        rollout.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
        rollout.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


@pytest.mark.parametrize("by_dsn", [True, False])
def test_reports_may_go_elsewhere(database, rollout, embedders, by_dsn):
    """Searches on a read-only connection, as a standby's are, reports to the primary."""
    reader = database.connect()
    reader.execute("SET default_transaction_read_only = on")
    there = database.dsn if by_dsn else database.connect()
    with Searcher(reader, "documents", open_embedder=embedders, report_every=0.0) as searcher:
        searcher.search("q")
        assert searcher.flush() is False
    with Searcher(reader, "documents", open_embedder=embedders, report_every=0.0, report_to=there) as searcher:
        searcher.search("q")
    assert reported(rollout) == [("v1", 1)]


def test_a_key_without_an_active_version(connection, versions, searcher):
    connection.execute("SELECT pgvmig.roll_back('documents', 'v1')")
    with pytest.raises(NotFoundError, match="documents has no active version"):
        searcher.route("alice")
