"""The plan, held against real tables and a real backfill of them."""

from __future__ import annotations

import json
import time

import pytest
from backfilling import Site
from lifecycle import add_version
from psycopg import sql

from pgvmig.demo.model_server import serving
from pgvmig.demo.models import HashModel
from pgvmig.errors import ConflictError, ContractError, DatabaseError, NotFoundError, UsageError
from pgvmig.planning import subject
from pgvmig.planning.plan import Plan
from pgvmig.runner import ConnectionRunner

PLAIN = "CREATE TABLE documents (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text)"
# md5 does not compress, words do
NOISE = "SELECT string_agg(md5(i::text || j::text), '') FROM generate_series(1, {}) AS j"
WORDS = (
    "SELECT string_agg((ARRAY['page', 'tuple', 'heap', 'of', 'toast'])[1 + (random() * 4)::int], ' ') "
    "FROM generate_series(1, {}) AS j WHERE i > 0"
)
VARIED = "2 + (random() * 45)::int"
TABLES = {
    "uniform": (PLAIN, NOISE.format(25), 384, 1200),
    "varied": (PLAIN, f"SELECT rpad('', {VARIED} * 32, ({NOISE.format(47)}))", 384, 1500),
    "loose pages": (f"{PLAIN} WITH (fillfactor = 70)", NOISE.format(25), 384, 1200),
    "short texts, vectors in the row": (PLAIN, NOISE.format(4), 256, 1200),
    "compressible": (PLAIN, WORDS.format("40 + (i * 37) % 200"), 1536, 1200),
    "wide rows": (PLAIN, NOISE.format(55), 384, 800),
    "texts in the TOAST table": (PLAIN, NOISE.format(150), 384, 1500),
    "a small table": (PLAIN, NOISE.format(25), 384, 90),
    "NULLs and other types": (
        (
            "CREATE TABLE documents (a int, b text, id uuid PRIMARY KEY DEFAULT gen_random_uuid(), c numeric, "
            "flag boolean, d timestamptz DEFAULT now(), e jsonb DEFAULT '{\"a\": [1, 2, 3]}', g smallint "
            "DEFAULT 7, body text, h text)"
        ),
        NOISE.format(9),
        768,
        1500,
    ),
}


@pytest.fixture
def model_server():
    with serving({f"d{n}": HashModel("hash", n) for n in (256, 384, 768, 1536)}) as running:
        yield running


def fill(site: Site, definition: str, text: str, rows: int) -> None:
    """Make the table; autovacuum would prune its pages at moments of its own."""
    site.execute(definition)
    site.execute("ALTER TABLE documents SET (autovacuum_enabled = false)")
    site.execute("SELECT setseed(0.5)")
    site.execute(f"INSERT INTO documents (body) SELECT ({text}) FROM generate_series(1, {rows}) AS i")
    site.execute("VACUUM ANALYZE documents")


def plan(site: Site, version: str = "v2", **options) -> Plan:
    return subject.plan(ConnectionRunner(site.connection), "documents", version, **options)


def updates(site: Site, rows: int) -> tuple[int, int]:
    """Return all and HOT updates of documents, when their backend has told them."""
    deadline = time.monotonic() + 20
    while True:
        found = site.execute(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'documents'"
        ).fetchone()
        if found[0] >= rows:
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def sizes(site: Site) -> dict[str, int]:
    heap, toast, wal = site.execute(
        "SELECT pg_relation_size('documents'), pg_total_relation_size(reltoastrelid), pg_current_wal_lsn() - '0/0' "
        "FROM pg_class WHERE relname = 'documents'"
    ).fetchone()
    return {"heap": heap, "toast": toast, "wal": int(wal)}


@pytest.mark.parametrize("table", TABLES)
def test_it_predicts_what_the_backfill_does(site, table):
    definition, text, dimensions, rows = TABLES[table]
    fill(site, definition, text, rows)
    predicted = plan(site, dimensions=dimensions)
    version = add_version(site.connection, "documents", "v2", {"provider": f"d{dimensions}", "dimensions": dimensions})
    site.execute("CHECKPOINT")
    before = sizes(site)
    assert site.run(batch_size=64).why == "done"
    everything, hot = updates(site, rows)
    grown = {name: size - before[name] for name, size in sizes(site).items()}
    assert version.layout == "column"
    assert (predicted.rows, predicted.waiting, everything) == (rows, rows, rows)
    assert abs(predicted.column.hot_share - hot / rows) <= 0.1
    assert predicted.column.table_bytes == pytest.approx(grown["heap"], rel=0.25, abs=200_000)
    assert predicted.column.toast_bytes == pytest.approx(grown["toast"], rel=0.1, abs=50_000)
    assert predicted.column.wal_bytes == pytest.approx(grown["wal"], rel=0.5, abs=200_000)


def with_old_index(site: Site, rows: int = 600, text: str = NOISE.format(40)) -> None:
    fill(site, PLAIN, text, rows)
    site.execute("ALTER TABLE documents ADD COLUMN old vector(8)")
    site.execute("CREATE INDEX documents_old_hnsw ON documents USING hnsw (old vector_cosine_ops)")


def test_a_table_that_the_column_layout_would_churn(site, pgvmig):
    with_old_index(site)
    done = pgvmig("plan", "documents", "v2", "--dimensions", "384", "--rate", "10")
    first, second, *_ = done.out.splitlines()
    share = plan(site, dimensions=384).column.hot_share
    assert first == (
        f'documents v2: choose layout="table": only {100 * share:.0f} % of the updates would be HOT, and '
        f"the others write "
        "into documents_old_hnsw again."
    )
    assert second == (
        "About 600 rows, 600 of them to embed. Of 100 sampled pages: 6.0 rows a page, 1,316 bytes a "
        "row, 1,384 with its "
        "vector."
    )
    table = {line[:28].strip(): line[28:].split("  ") for line in done.out.splitlines()[4:12]}
    assert [*table] == [
        "HOT updates", "WAL", "table grows, or side table", "TOAST", "new HNSW index", "disk in all",
        "rows/s the database takes", "time at 10 rows/s embedded",
    ]  # fmt: skip
    assert done.out.count("60 s") == 2
    assert "documents_old_hnsw  hnsw" in done.out
    assert (
        'Next: layout="table"; ALTER TABLE documents SET (fillfactor = 60) helps only rows written after it' in done.out
    )


def test_its_json(site, pgvmig):
    with_old_index(site)
    found = json.loads(pgvmig("plan", "documents", "v2", "--dimensions", "384", "--json", "--exact").out)
    assert (found["recommended"], found["rows"], found["waiting"], found["exact"]) == ("table", 600, 600, True)
    assert found["column"]["hot_share"] < 0.8
    assert found["table"]["hot_share"] is None
    assert found["table"]["wal_bytes"] < found["column"]["wal_bytes"]
    assert [(c["index"], c["method"]) for c in found["churn"]] == [
        ("documents_pkey", "btree"),
        ("documents_old_hnsw", "hnsw"),
    ]
    assert {"found", "hazard", "next"} == set(found["warnings"][0])
    assert found["sample"]["pages"] == 100


def test_a_table_with_room(site):
    fill(site, f"{PLAIN} WITH (fillfactor = 70)", NOISE.format(25), 600)
    found = plan(site, dimensions=1536)
    assert (found.recommended, found.reasons) == (
        "column",
        ["100 % of the updates would be HOT and leave documents_pkey alone", "searches read one table, without a join"],
    )
    assert [warning.found for warning in found.warnings] == ["Autovacuum is off for documents"]


def test_triggers_and_publications_speak_for_the_table_layout(site):
    fill(site, f"{PLAIN} WITH (fillfactor = 70)", NOISE.format(25), 100)
    site.execute("CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'")
    site.execute("CREATE TRIGGER audit AFTER UPDATE ON documents FOR EACH ROW EXECUTE FUNCTION touch()")
    site.execute("CREATE PUBLICATION docs FOR TABLE documents")
    found = plan(site, dimensions=8)
    assert (found.recommended, found.reasons) == (
        "table",
        ["docs would send the new columns to subscribers that lack them", "every row's update would fire audit"],
    )
    first, second, _ = found.warnings
    assert first.next == (
        'layout="table", whose side table is not published, or ALTER PUBLICATION docs SET TABLE public.documents '
        "(id, body), or prepare the subscribers (the same columns there), then alembic -x "
        "pgvmig_published=documents.v2 "
        "upgrade ..."
    )
    assert second.found == "In the column layout every batch fires audit (AFTER ROW, touch)"


def test_a_version_that_is_there_says_its_own_dimensions(site):
    fill(site, PLAIN, NOISE.format(25), 300)
    before = plan(site, dimensions=384).column.hot_share
    version = add_version(site.connection, "documents", "v2", {"provider": "d384", "dimensions": 384})
    found = plan(site)
    assert (found.dimensions, found.vector_type, found.waiting) == (384, "vector", 300)
    assert found.column.hot_share == before
    assert site.run().why == "done"
    assert plan(site, exact=True).waiting == 0
    site.execute(
        sql.SQL("CREATE INDEX ON documents USING hnsw ({} vector_cosine_ops)").format(
            sql.Identifier(version.vector_column)
        )
    )
    assert plan(site).column.hot_share == 0


def test_a_version_in_a_side_table(site):
    fill(site, PLAIN, NOISE.format(25), 120)
    add_version(site.connection, "documents", "v2", {"provider": "d384", "dimensions": 384}, layout="table")
    assert plan(site).waiting == 120
    assert site.run().why == "done"
    site.execute("INSERT INTO documents (body) VALUES ('one more')")
    assert plan(site, exact=True).waiting == 1


def test_who_may_not_see_every_row_or_make_a_temporary_table(site):
    fill(site, PLAIN, NOISE.format(25), 120)
    site.execute("CREATE ROLE reader")
    site.execute("GRANT SELECT ON documents TO reader")
    site.execute("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA pgvmig TO reader")
    site.execute(f"REVOKE TEMPORARY ON DATABASE {site.database.name} FROM public")
    try:
        site.execute("SET ROLE reader")
        found = plan(site, dimensions=384)
        assert found.rows == 120
        assert found.warnings[-1].found.startswith("Whether the texts can be compressed was not tried")
        site.execute("RESET ROLE")
        site.execute("ALTER TABLE documents ENABLE ROW LEVEL SECURITY")
        site.execute("SET ROLE reader")
        with pytest.raises(DatabaseError, match="row-level security"):
            plan(site, dimensions=384)
    finally:
        site.execute("RESET ROLE")
        site.execute("DROP OWNED BY reader")
        site.execute("DROP ROLE reader")


def test_an_empty_table(site):
    fill(site, PLAIN, NOISE.format(25), 0)
    found = plan(site, dimensions=384)
    assert (found.recommended, found.rows, found.column.disk_bytes, found.warnings[:-1]) == ("column", 0, 0, [])


def test_counting_and_estimating(site):
    fill(site, PLAIN, "SELECT 'a text'", 1000)
    site.execute("DELETE FROM documents WHERE id <= 300")
    assert plan(site, dimensions=8, exact=True).rows == 700
    assert plan(site, dimensions=8).exact is False


def test_it_changes_nothing(site):
    with_old_index(site)
    inventory = "SELECT count(*), sum(relnatts), sum(relpages) FROM pg_class"
    before = site.execute(inventory).fetchone()
    plan(site, dimensions=384)
    assert site.execute(inventory).fetchone() == before


REFUSED = [
    (
        ("documents", "v2"), {}, UsageError,
        ("documents v2 is not there yet, and nothing says how long its vectors will be. "
        "Next: pgvmig plan documents v2 --dimensions 1536"),
    ),
    (
        ("documents", "v1"), {"dimensions": 9}, UsageError,
        "documents v1 is vector(8) already. Next: leave --dimensions and --vector-type out, or plan the next version",
    ),
    (
        ("documents", "v2"), {"dimensions": 17_000}, ContractError,
        "dimensions is 17,000. Next: give a number from 1 to 16,000",
    ),
    (
        ("nowhere", "v2"), {"dimensions": 8}, NotFoundError,
        "there is no table nowhere. Next: write [schema.]table[.slot], such as documents",
    ),
    (
        ("part", "v2"), {"dimensions": 8}, ConflictError,
        ("part is a partition of parts. Searches through the whole table would find vectors in one partition and none "
        "in the others. Next: name parts: its partitions, and those to come, are taken with it"),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("where", "options", "kind", "message"), REFUSED, ids=[message for *_, message in REFUSED])
def test_what_cannot_be_planned(site, where, options, kind, message):
    site.documents(10)
    add_version(site.connection, "documents", "v1")
    site.execute("CREATE TABLE parts (id int PRIMARY KEY, body text) PARTITION BY RANGE (id)")
    site.execute("CREATE TABLE part PARTITION OF parts DEFAULT")
    with pytest.raises(kind) as error:
        subject.plan(ConnectionRunner(site.connection), *where, **options)
    assert str(error.value) == message


@pytest.mark.majors(18, 16)
def test_on_either_major_and_in_another_schema(site):
    site.execute('CREATE SCHEMA "App"')
    site.execute('CREATE TABLE "App"."My ""docs" (id int PRIMARY KEY, "the %s" text, filler text, before text)')
    site.execute(
        f'INSERT INTO "App"."My ""docs" SELECT i, ({NOISE.format(90)}), \'f\', \'b\' FROM generate_series(1, 200) AS i'
    )
    found = subject.plan(ConnectionRunner(site.connection), 'App."My ""docs".title', "v1", dimensions=3072)
    assert (found.target, found.vector_type, found.rows) == ('App."My ""docs".title', "halfvec", 200)
    # texts of 2,880 bytes are in the TOAST table: on 16 that is concluded from their length
    assert found.sample.row_bytes < 60
    assert found.sample.row_bytes_with_vector < 140
