"""The downgrade of an index: nothing is dropped on a way down that is refused a step later."""

import pytest
from lifecycle import cut_over, embed, find
from migrating import OwnProject

from pgvmig import errors, indexing
from pgvmig.address import address
from pgvmig.runner import ConnectionRunner

V1, V2 = address("documents", "v1"), address("documents", "v2")
INDEXES = (
    "SELECT v.version, v.index_plan IS NOT NULL, i.index::text FROM pgvmig.version v "
    "LEFT JOIN LATERAL pgvmig.vector_indexes(v) i ON true ORDER BY 1"
)
PLACES = 'columns=["id", "body"], key=["id"]'


@pytest.fixture
def connection(database):
    connection = database.connect()
    connection.execute("CREATE TABLE documents (id bigint PRIMARY KEY, body text)")
    connection.execute("INSERT INTO documents SELECT i, 'text ' || i FROM generate_series(1, 10) AS i")
    return connection


@pytest.fixture
def project(database, connection, tmp_path):
    """Revisions as autogenerate writes them."""
    project = OwnProject(database.url, tmp_path / "alembic")
    for version in ("v1", "v2"):
        project.revision(
            f'op.add_embedding("documents", "{version}", CONTRACT, {PLACES}); '
            f'op.index_embedding("documents", "{version}", after_backfill=True)',
            f'op.drop_embedding_index("documents", "{version}"); op.drop_embedding("documents", "{version}")',
        )
    project.upgrade()
    for where in (V1, V2):
        embed(connection, find(connection, where))
        indexing.build(ConnectionRunner(connection), where)
    return project


def switch(connection, where):
    cut_over(ConnectionRunner(connection), where)


def refused(project, to, found, *told):
    """Go down, and return what it said; the indexes and what is recorded of them are as they were."""
    connection = project.connection
    before = connection.execute(INDEXES).fetchall()
    with pytest.raises(errors.PgvmigError) as error:
        project.downgrade(to, *told)
    assert found in str(error.value)
    assert connection.execute(INDEXES).fetchall() == before
    return str(error.value)


def test_a_way_down_that_is_refused_drops_no_index(project, connection):
    """`alembic downgrade -1` after `pgvmig cutover`: no revision rolls back, so the version is still active."""
    project.connection = connection
    switch(connection, V1)
    found = refused(project, "r1", "documents v2 has vectors, its index is not dropped.")
    assert found == (
        "documents v2 has vectors, its index is not dropped. To drop the version as well would be refused, and the "
        "index would be gone by then. Next: alembic -x pgvmig_drop=documents.v2 downgrade ... drops both; for the "
        "index alone, alembic -x pgvmig_drop_index=documents.v2"
    )
    switch(connection, V2)
    for told in ((), ("pgvmig_drop=documents.v2",)):
        found = refused(project, "r1", "documents v2 is active", *told)
    assert found == (
        "documents v2 is active, its index is not dropped. Every search would compare all vectors, one by one. "
        "Next: pgvmig rollback documents; or to search without an index, alembic -x pgvmig_drop_index=documents.v2"
    )
    project.revision("pass", 'op.drop_embedding_index("documents", "v1")')
    project.upgrade()
    found = refused(project, "r2", "documents v1 is the way back", "pgvmig_drop=documents.v1")
    assert found == (
        "documents v1 is the way back from v2, its index is not dropped. After a rollback every search would compare "
        "all vectors, one by one. Next: op.retire_embedding drops it with the vectors; or to drop the index alone, "
        "alembic -x pgvmig_drop_index=documents.v1"
    )
    project.downgrade("r2", "pgvmig_drop_index=documents.v1")
    assert connection.execute(INDEXES).fetchall() == [
        ("v1", False, None),
        ("v2", True, "documents_embedding_v2_hnsw"),
    ]


def test_what_is_given_up_goes_with_its_index(project, connection):
    project.downgrade("r1", "pgvmig_drop=documents.v2")
    assert connection.execute(INDEXES).fetchall() == [("v1", True, "documents_embedding_v1_hnsw")]


def test_a_script_says_so_before_it_drops_anything(project, connection):
    switch(connection, V2)
    script = project.sql("r2:r1")
    check = "SELECT pgvmig.require_droppable_index('\"documents\"', 'v2', 'embedding', destroy => false);"
    assert script.index(check) < script.index("COMMIT;") < script.index("DROP INDEX CONCURRENTLY")
    with pytest.raises(Exception, match="documents v2 is active, its index is not dropped"):
        connection.execute(script.partition("COMMIT;")[0])


def test_a_version_can_be_searched_without_an_index(project, connection):
    switch(connection, V2)
    project.revision(
        'op.drop_embedding_index("documents", "v2", version_stays=True)',
        'op.index_embedding("documents", "v2", after_backfill=True)',
    )
    for _ in range(2):
        project.upgrade()
        assert connection.execute(INDEXES).fetchall()[1] == ("v2", False, None)
        project.downgrade("r2")
        assert connection.execute(INDEXES).fetchall()[1] == ("v2", True, "documents_embedding_v2_hnsw")


def test_a_version_that_is_not_there_has_no_index(project, connection):
    connection.execute("SELECT pgvmig.drop_version('documents', 'v2', destroy => true)")
    project.downgrade("r1")
    assert [version for version, _, _ in connection.execute(INDEXES).fetchall()] == ["v1"]


@pytest.mark.parametrize("renamed", ["papers", "documents" + "x" * 54])
def test_an_index_keeps_serving_when_its_table_is_renamed(project, connection, renamed):
    """The index has the old name. One that is right is left alone; another definition takes its place."""
    run = ConnectionRunner(connection)
    connection.execute(f"ALTER TABLE documents RENAME TO {renamed}")
    where = address(renamed, "v2")
    assert not indexing.build(run, where)
    assert connection.execute(INDEXES).fetchall()[1][2] == "documents_embedding_v2_hnsw"
    for options in ({"m": 8}, {"m": 12}):
        assert indexing.build(run, where, options=options)
        (built,) = [index for version, _, index in connection.execute(INDEXES).fetchall() if version == "v2"]
        assert built.startswith(renamed[:20])
    connection.execute(f"ALTER TABLE {renamed} RENAME TO documents")
    assert indexing.build(run, V2, method="ivfflat")
    assert connection.execute(INDEXES).fetchall()[1:] == [("v2", True, "documents_embedding_v2_ivfflat")]
    connection.execute("ALTER TABLE documents RENAME TO papers")
    indexing.drop(run, address("papers", "v2"), method="ivfflat", version_stays=True)
    assert connection.execute(INDEXES).fetchall()[1:] == [("v2", False, None)]


def test_a_retired_version_gets_no_index(project, connection):
    switch(connection, V2)
    connection.execute(
        "SELECT pgvmig.retire('documents', 'v1', soak => '0', skip => '{unused,soak}', reason => 'a test')"
    )
    project.revision('op.index_embedding("documents", "v1", after_backfill=True)')
    with pytest.raises(errors.PgvmigError) as error:
        project.upgrade()
    assert str(error.value) == "documents v1 is retired. Next: op.add_embedding() adds it again, empty"


def test_a_script_records_another_index_of_a_version_that_is_there(project, connection):
    """Autogenerate writes such a revision when a model changes the options; its script begins after the version's."""
    switch(connection, V2)
    project.revision(
        'op.index_embedding("documents", "v2", options={"m": 8}, after_backfill=True)',
        'op.index_embedding("documents", "v2", after_backfill=True)',
    )
    script = project.sql("r2:r3")
    assert "-- pgvmig: what the index of documents v2 is to be; pgvmig index documents v2 builds it" in script
    assert "CREATE INDEX" not in script
    connection.execute(script)
    run = ConnectionRunner(connection)
    assert indexing.planned(run, V2).options == {"m": 8}
    assert indexing.build(run, V2, options={"m": 8})
    assert connection.execute(INDEXES).fetchall()[1] == ("v2", True, "documents_embedding_v2_hnsw")
