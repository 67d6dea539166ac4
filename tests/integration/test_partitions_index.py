"""The index of a partitioned table: each partition's CONCURRENTLY, attached; resumed, replaced, dropped, retired."""

import pytest
from partitioned import LIST, documents, insert

from pgvmig import indexing
from pgvmig.address import address
from pgvmig.errors import ConflictError, UsageError
from pgvmig.runner import ConnectionRunner

V2 = address("documents", "v2")
NAME = "documents_embedding_v2_hnsw"
# Every index of the tree, the partition it is on, and whether it is valid; what is attached to nothing is not in it.
TREE = (
    "SELECT i.indrelid::regclass::text, c.relname, i.indisvalid FROM pg_partition_tree(%s::text::regclass) t "
    "JOIN pg_index i ON i.indexrelid = t.relid JOIN pg_class c ON c.oid = t.relid ORDER BY t.level, 1"
)
HNSW = "SELECT count(*) FROM pg_class c JOIN pg_am m ON m.oid = c.relam WHERE m.amname = 'hnsw'"


@pytest.fixture
def run(site):
    return ConnectionRunner(site.connection)


def backfilled(site, definition=LIST):
    documents(site, definition, rows=30)
    version = site.version()
    site.run()
    return version


def tree(site, name=NAME):
    return site.execute(TREE, name).fetchall()


class Interrupted(ConnectionRunner):
    """Stops before its n-th statement that makes, attaches, renames or drops something."""

    def __init__(self, connection, after):
        super().__init__(connection)
        self.left = after

    def run(self, statement):
        text = "".join(line for line in statement.as_string(None).splitlines() if not line.startswith("--"))
        if any(word in text for word in ("CREATE INDEX", "ATTACH PARTITION", "RENAME TO", "DROP INDEX")):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
        return super().run(statement)


def test_each_partition_gets_its_own_and_searches_use_them_all(site, run):
    version = backfilled(site)
    assert indexing.build(run, V2)
    assert not indexing.build(run, V2)
    assert tree(site) == [
        ("documents", NAME, True),
        ("documents_1", "documents_1_embedding_v2_hnsw", True),
        ("documents_2", "documents_2_embedding_v2_hnsw", True),
        ("documents_1_0", "documents_1_0_embedding_v2_hnsw", True),
        ("documents_1_1", "documents_1_1_embedding_v2_hnsw", True),
    ]
    passed, found = site.execute(
        "SELECT g.passed, g.found FROM pgvmig.version v, pgvmig.gate_index(v, NULL) g"
    ).fetchone()
    assert (passed, found) == (True, f"public.{NAME} serves public.documents_v2")
    assert site.value("SELECT bool_and(convalidated) FROM pg_constraint WHERE conname = 'documents_embedding_v2_whole'")
    # a new partition's is PostgreSQL's own doing
    site.execute("CREATE TABLE documents_3 PARTITION OF documents FOR VALUES IN (300)")
    insert(site, 300, 3)
    site.run()
    assert [valid for _, _, valid in tree(site)] == [True] * 6
    assert site.problems(version) == []


def test_goes_on_wherever_it_was_interrupted(site):
    backfilled(site)
    steps = 0
    while True:
        try:
            indexing.build(Interrupted(site.connection, steps), V2)
        except KeyboardInterrupt:
            steps += 1
            before = site.value(HNSW)
            indexing.build(Interrupted(site.connection, 10_000), V2)
            assert site.value(HNSW) == 5 >= before
            assert [valid for _, _, valid in tree(site)] == [True] * 5
            indexing.drop(ConnectionRunner(site.connection), V2, destroy=True)
            assert site.value(HNSW) == 0
        else:
            break
    # the table's; one that is partitioned itself and is attached; three partitions, each built and attached
    assert steps == 9


def test_what_a_killed_build_left_is_dropped_and_what_is_finished_is_kept(site, run):
    backfilled(site)
    with pytest.raises(KeyboardInterrupt):
        indexing.build(Interrupted(site.connection, 5), V2)
    finished = {name for _, name, valid in tree(site) if valid}
    assert len(finished) == 1
    kept = site.value("SELECT oid::text FROM pg_class WHERE relname = ANY (%s)", list(finished))
    # as a session that was terminated in its second phase leaves it
    site.execute(
        "CREATE INDEX documents_1_1_embedding_v2_hnsw ON documents_1_1 USING hnsw (embedding_v2 vector_cosine_ops)"
    )
    site.execute(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'documents_1_1_embedding_v2_hnsw'::regclass"
    )
    assert indexing.build(run, V2)
    assert [valid for _, _, valid in tree(site)] == [True] * 5
    assert site.value("SELECT oid::text FROM pg_class WHERE relname = ANY (%s)", list(finished)) == kept


def test_an_index_that_a_partition_has_already_is_attached(site, run):
    backfilled(site)
    site.execute("CREATE INDEX mine ON documents_2 USING hnsw (embedding_v2 vector_cosine_ops)")
    assert indexing.build(run, V2)
    assert ("documents_2", "mine", True) in tree(site)


def test_a_name_that_is_taken_is_refused(site, run):
    backfilled(site)
    site.execute("CREATE TABLE other (n int)")
    site.execute("CREATE INDEX documents_2_embedding_v2_hnsw ON other (n)")
    with pytest.raises(ConflictError, match='documents_2_embedding_v2_hnsw" is an index of another table'):
        indexing.build(run, V2)


def test_another_definition_is_built_beside_and_takes_the_name(site, run):
    backfilled(site)
    indexing.build(run, V2)
    for stop in range(0, 30, 5):
        try:
            indexing.build(Interrupted(site.connection, stop), V2, options={"m": 8})
        except KeyboardInterrupt:
            assert site.value("SELECT (pgvmig.gate_index(v, NULL)).passed FROM pgvmig.version v"), (
                f"no index serves after {stop} steps"
            )
    indexing.build(run, V2, options={"m": 8})
    assert site.value(HNSW) == 5
    assert [valid for _, _, valid in tree(site)] == [True] * 5
    assert {name for _, name, _ in tree(site)} == {
        f"documents{part}_embedding_v2_hnsw" for part in ("", "_1", "_2", "_1_0", "_1_1")
    }
    assert (
        site.value("SELECT count(*) FROM pg_class WHERE relname LIKE 'documents%%hnsw' AND 'm=8' = ANY (reloptions)")
        == 5
    )


def test_scans_of_partitions_are_counted_as_reads(site, run):
    version = backfilled(site)
    indexing.build(run, V2)
    site.execute("SET enable_seqscan = off")
    site.execute("SET enable_sort = off")
    query = "SELECT id FROM documents_v2 ORDER BY embedding <=> '[1,1,1,1,1,1,1,1]' LIMIT 3"
    before = site.value(f"SELECT scans FROM pgvmig.index_scans({version.version_id})")
    site.execute(query)
    site.execute("SELECT pg_stat_force_next_flush()")
    after = site.value(f"SELECT scans FROM pgvmig.index_scans({version.version_id})")
    assert after - before == 3


def test_ivfflat_is_refused(site, run):
    backfilled(site)
    with pytest.raises(UsageError) as error:
        indexing.build(run, V2, method="ivfflat")
    assert str(error.value) == (
        "method is 'ivfflat' and documents is partitioned. IVFFlat takes its centres from the rows that are there: a "
        "new partition's index is made before its first row, and its searches would miss most of what comes. "
        "Next: method='hnsw', or layout=\"table\", whose side table has one index of all vectors"
    )


@pytest.mark.layouts("table")
def test_a_table_of_vectors_has_one_index_of_all(site, run):
    backfilled(site)
    indexing.build(run, V2)
    assert site.value(HNSW) == 1


def test_a_new_partition_does_not_end_the_proof_that_nobody_reads(site, run):
    backfilled(site)
    indexing.build(run, V2)
    read = "SELECT pgvmig.read_index_scans(v) FROM pgvmig.version v"
    since = (
        "SELECT u.void, r.read_at = u.since FROM "
        "(SELECT * FROM pgvmig.index_reading ORDER BY reading_id DESC LIMIT 1) AS l, "
        "LATERAL pgvmig.unread_since(l::pgvmig.index_reading, 'scans', '-infinity') u, "
        "(SELECT * FROM pgvmig.index_reading ORDER BY reading_id LIMIT 1) AS r"
    )
    site.execute(read)
    site.execute("CREATE TABLE documents_3 PARTITION OF documents FOR VALUES IN (300)")
    site.execute(read)
    site.execute("UPDATE pgvmig.index_reading SET last_scan = NULL")
    assert site.execute(since).fetchone() == (False, True)
    # of an index that is gone nobody knows whether it was read
    site.execute("DROP TABLE documents_3")
    site.execute(read)
    site.execute("UPDATE pgvmig.index_reading SET last_scan = NULL")
    assert site.execute(since).fetchone() == (True, False)


def test_a_build_that_was_given_up_is_dropped_to_the_last_partition(site, run):
    backfilled(site)
    for stop in (2, 4, 6):
        with pytest.raises(KeyboardInterrupt):
            indexing.build(Interrupted(site.connection, stop), V2)
        assert site.value(HNSW) > 0
        indexing.drop(run, V2, destroy=True)
        assert site.value(HNSW) == 0


def test_names_schemas_and_quantised_indexes_of_partitions(site, run):
    site.execute('CREATE SCHEMA "Other"')
    # in another schema, with columns in another order, and with a name that leaves no room for more
    name = "Größe " + "x" * 50
    site.execute(
        "CREATE TABLE documents (id bigint, day integer, body text, PRIMARY KEY (id, day)) PARTITION BY LIST (day)"
    )
    site.execute(f'CREATE TABLE "Other"."{name}" (body text, day integer NOT NULL, id bigint NOT NULL)')
    site.execute(f'ALTER TABLE documents ATTACH PARTITION "Other"."{name}" FOR VALUES IN (1)')
    site.execute("CREATE TABLE documents_2 PARTITION OF documents DEFAULT")
    insert(site, 1, 20)
    insert(site, 2, 20)
    version = site.version()
    site.run()
    assert indexing.build(run, V2, quantize="halfvec")
    assert not indexing.build(run, V2, quantize="halfvec")
    assert [valid for _, _, valid in tree(site)] == [True] * 3
    assert site.value("SELECT g.passed FROM pgvmig.version v, pgvmig.gate_index(v, NULL) g")
    assert site.problems(version) == []
    # a search plans to an index of each, ranked together
    site.execute("SET enable_seqscan = off; SET enable_sort = off")
    found = site.execute(
        "SELECT pgvmig.serving_index(v, c.definition)::text FROM pgvmig.version v, pgvmig.contract c"
    ).fetchone()
    assert found == (NAME,)
