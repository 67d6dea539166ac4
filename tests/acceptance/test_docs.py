"""README and docs say what is true: every block runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest
from lifecycle import add_version, install
from pages import BLOCK, DOCS, ROOT, Reader, blocks

from pgvmig import indexing
from pgvmig.address import address
from pgvmig.adopting.mixture import largest_missed
from pgvmig.alembic_plugin import reference as alembic_reference
from pgvmig.cli import COMMANDS, pacing_reference, reference
from pgvmig.demo.models import HashModel
from pgvmig.pacing.controller import State
from pgvmig.pacing.limits import settings
from pgvmig.pacing.registry import SIGNALS
from pgvmig.runner import ConnectionRunner


def test_quickstart(reader: Reader) -> None:
    assert reader.follow(ROOT / "docs" / "quickstart.md") > 10
    with psycopg.connect(reader.dsn) as conn:
        states = conn.execute("SELECT version, state FROM pgvmig.version ORDER BY 1").fetchall()
        assert states == [("v1", "retained"), ("v2", "active")]
        assert conn.execute("SELECT count(*) FROM articles_current").fetchone() == (500,)


def test_alembic(reader: Reader) -> None:
    page = ROOT / "docs" / "alembic.md"
    assert reader.follow(page) > 8
    with psycopg.connect(reader.dsn) as conn:
        states = conn.execute(
            "SELECT version, state, index_plan ->> 'method' FROM pgvmig.version ORDER BY 1"
        ).fetchall()
        assert states == [("v1", "added", "hnsw"), ("v2", "added", "hnsw")]
    (written,) = reader.folder.glob("migrations/versions/*_text_embedding_3_small.py")
    shown = next(text for text in blocks("docs/alembic.md", "text") if "def upgrade" in text)
    lines = [line for line in written.read_text().splitlines() if "# ###" not in line]
    assert lines[-len(shown.splitlines()) :] == shown.splitlines()
    assert 'ADD COLUMN "embedding_v2" "vector"(1536)' in (reader.folder / "review.sql").read_text()
    assert page.read_text(encoding="utf-8") == alembic_reference.render(page.read_text(encoding="utf-8")), "make docs"


def test_scaffold(reader: Reader) -> None:
    page = ROOT / "docs" / "scaffold.md"
    assert reader.follow(page) == 10
    with psycopg.connect(reader.dsn) as conn:
        assert conn.execute("SELECT version, state FROM pgvmig.version").fetchall() == [("v1", "active")]
        assert conn.execute("SELECT count(*) FROM articles_current").fetchone() == (200,)
    (shown,) = blocks("docs/scaffold.md", "text")
    printed = reader.run(["bash", "-c", "alembic heads"])
    lines, heads = ({line.split()[1] for line in text.splitlines()} for text in (shown, printed))
    assert lines == heads == {"(embeddings)", "(main)"}


def test_layouts(reader: Reader) -> None:
    prepare_alembic(reader)
    assert reader.follow(ROOT / "docs" / "layouts.md") == 6
    with psycopg.connect(reader.dsn) as conn:
        assert conn.execute("SELECT count(*) FROM pgvmig.version").fetchone() == (0,)


def test_partitions(reader: Reader) -> None:
    prepare_alembic(reader)
    assert reader.follow(ROOT / "docs" / "partitions.md") == 5
    with psycopg.connect(reader.dsn) as conn:
        assert conn.execute("SELECT count(*) FROM notes_v1").fetchone() == (301,)
        passed = conn.execute("SELECT g.passed FROM pgvmig.version v, pgvmig.gate_index(v, NULL) g").fetchone()
        assert passed == (True,)


def test_layouts_quotes_the_plan(reader: Reader) -> None:
    (table, _) = blocks("docs/layouts.md", "sql")
    (shell, _) = blocks("docs/layouts.md", "console")
    (shown,) = blocks("docs/layouts.md", "text")
    reader.sql(table)
    init, plan = [line.removeprefix("$ ") for line in shell.splitlines()]
    reader.run(init.split())
    printed = reader.run(plan.split())
    assert [line.rstrip() for line in printed.splitlines()] == shown.splitlines()


def prepare_readme(reader: Reader) -> None:
    """Give the reader the table of the README and Alembic's environment of the quickstart."""
    reader.sql("CREATE TABLE documents (id bigint PRIMARY KEY, title text, body text)")
    prepare_alembic(reader)


def prepare_alembic(reader: Reader) -> None:
    """Give the reader Alembic's environment of the quickstart."""
    for text in blocks("docs/quickstart.md", "python")[:1] + blocks("docs/quickstart.md", "ini"):
        reader.save(text)
    (reader.folder / "migrations" / "versions").mkdir()


def test_readme_installs(reader: Reader) -> None:
    (made, installed) = blocks("README.md", "console")
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert all(line.split()[1] in targets for line in made.splitlines())
    pip, *commands = installed.splitlines()
    assert pip.startswith("pip install 'pgvmig[")
    prepare_readme(reader)
    reader.save(blocks("docs/alembic.md", "ini")[1])
    reader.console("\n".join(commands))


def test_readme_revision_and_sql(reader: Reader) -> None:
    prepare_readme(reader)
    reader.run(["pgvmig", "init"])
    _, revision = blocks("README.md", "python")
    head = "revision = '0001'\ndown_revision = None\n"
    (reader.folder / "migrations" / "versions" / "0001_v2.py").write_text(head + revision)
    assert "CREATE VIEW" not in reader.run(["bash", "-c", "alembic upgrade head"])
    (queries,) = blocks("README.md", "sql")
    space, search = [part for part in queries.split(";") if part.strip()]
    reader.sql(space)
    reader.run(["pgvmig", "standby", "none"])
    reader.run(["pgvmig", "cutover", "documents", "v2"])
    reader.sql(f"PREPARE search AS {search}")
    reader.sql("SELECT pgvmig.roll_back('documents', 'v2')")  # the first version's, named
    reader.run(["alembic", "downgrade", "-1"])


def test_readme_crontab_line(reader: Reader) -> None:
    prepare_readme(reader)
    reader.run(["pgvmig", "init"])
    (line,) = [text for text in blocks("README.md", "text") if "* * * *" in text]
    reader.run(["pgvmig", "standby", "none"])
    reader.run(["bash", "-c", line.split("*  ", 1)[1]])


def test_readme_quotes_the_gate() -> None:
    assert any(
        "documents v2 is not ready: 588 of 1,000 rows have no vector. Next: pgvmig backfill documents v2" in text
        for text in blocks("README.md", "text")
    )


def test_cli_reference_is_current() -> None:
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == reference.render(), "make docs"


def test_pacing_tables_are_current() -> None:
    text = (ROOT / "docs" / "pacing.md").read_text(encoding="utf-8")
    assert text == pacing_reference.render(text), "make docs"
    assert [setting.name for setting in settings() if f"| `{setting.name}` |" not in text] == []
    assert [signal.name for signal in SIGNALS if f"| {signal.name} |" not in text] == []
    assert [str(state) for state in State if f"| {state} |" not in text] == []


def test_pacing_at_three_in_the_morning(reader: Reader) -> None:
    prepare_readme(reader)
    _, revision = blocks("README.md", "python")
    head = "revision = '0001'\ndown_revision = None\n"
    (reader.folder / "migrations" / "versions" / "0001_v2.py").write_text(head + revision)
    for command in ("pgvmig init", "pgvmig standby none", "alembic upgrade head"):
        reader.run(["bash", "-c", command])
    assert reader.follow(ROOT / "docs" / "pacing.md") >= 5
    reader.run(["pgvmig", "backfill"])  # with the limits of the page's pgvmig.toml
    with psycopg.connect(reader.dsn) as conn:
        limits = conn.execute("SELECT limits FROM pgvmig.backfill_run").fetchone()
        assert limits == ({"max_lag": 0.8, "nice": 1, "max_slot_wal": 4 * 1024**3},)
        verbs = "SELECT verb FROM pgvmig.event WHERE source = 'cli' AND verb <> 'declare standby' ORDER BY event_id"
        assert conn.execute(verbs).fetchall() == [("pause",), ("throttle",), ("resume",), ("throttle",)]


def test_rollback_at_three_in_the_morning(reader: Reader) -> None:
    prepare_cutover(reader)
    assert reader.follow(ROOT / "docs" / "rollback.md") > 10
    with psycopg.connect(reader.dsn) as conn:
        switches = "SELECT verb, version FROM pgvmig.event WHERE to_state = 'active' ORDER BY event_id"
        assert conn.execute(switches).fetchall()[-2:] == [("roll back", "v1"), ("cut over", "v2")]
        routes = "SELECT (detail ->> 'percent')::float FROM pgvmig.event WHERE verb = 'route' ORDER BY event_id"
        assert [percent for (percent,) in conn.execute(routes)] == [0, 10, 50]
        served = "SELECT version, value FROM pgvmig.production_metric JOIN pgvmig.version USING (version_id) "
        assert conn.execute(served + "WHERE metric = 'served'").fetchall() == [("v2", 1)]


def prepare_cutover(reader: Reader) -> None:
    """Give the reader a table that was cut over from v1 to v2."""
    prepare_readme(reader)
    reader.sql("INSERT INTO documents SELECT n, 'Title ' || n, 'Body ' || n FROM generate_series(1, 60) AS n")
    reader.toml(*blocks("docs/quickstart.md", "toml"))
    models = {"v1": ("openai", "text-embedding-ada-002", 1536), "v2": ("local", "all-MiniLM-L6-v2", 384)}
    with psycopg.connect(reader.dsn, autocommit=True) as conn:
        install(conn)
        for version, (provider, model, dimensions) in models.items():
            contract = {"provider": provider, "model": model, "dimensions": dimensions, "input": "title || body"}
            add_version(conn, "documents", version, contract)
    reader.run(["pgvmig", "standby", "none"])
    reader.run(["pgvmig", "backfill"])
    for version in models:
        reader.sql(f"CREATE INDEX ON documents USING hnsw (embedding_{version} vector_cosine_ops)")
        reader.run(["pgvmig", "verify", "documents", version])
        reader.run(["pgvmig", "cutover", "documents", version])


def test_report(reader: Reader) -> None:
    prepare_readme(reader)
    _, revision = blocks("README.md", "python")
    head = "revision = '0001'\ndown_revision = None\n"
    (reader.folder / "migrations" / "versions" / "0001_v2.py").write_text(head + revision)
    for command in ("pgvmig init", "pgvmig standby none", "alembic upgrade head"):
        reader.run(["bash", "-c", command])
    assert reader.follow(ROOT / "docs" / "report.md") == 4
    assert "documents: migration report" in (reader.folder / "report.html").read_text(encoding="utf-8")


def prepare_switch(reader: Reader) -> None:
    """Give the reader a table whose v1 is active and whose v2, of another type, is complete and indexed."""
    reader.sql("CREATE TABLE documents (id bigint PRIMARY KEY, title text, body text)")
    reader.sql("INSERT INTO documents SELECT i, 't' || i, 'passage number ' || i FROM generate_series(1, 20) AS i")
    models = {
        "v1": {"provider": "openai", "model": "text-embedding-ada-002", "dimensions": 1536},
        "v2": {"provider": "local", "model": "all-MiniLM-L6-v2", "dimensions": 384, "vector_type": "halfvec"},
    }
    reader.toml(*blocks("docs/quickstart.md", "toml"))
    reader.run(["pgvmig", "standby", "none"])
    with psycopg.connect(reader.dsn, autocommit=True) as conn:
        for version, contract in models.items():
            add_version(conn, "documents", version, contract)
            reader.run(["pgvmig", "backfill", "documents", version])
            indexing.build(ConnectionRunner(conn), address("documents", version))
    reader.run(["pgvmig", "verify", "documents", "v1"])
    reader.run(["pgvmig", "cutover", "documents", "v1"])


def test_cutover(reader: Reader) -> None:
    reader.run(["pgvmig", "init"])
    prepare_switch(reader)
    prepare_alembic(reader)
    assert reader.follow(ROOT / "docs" / "cutover.md") > 8
    active = "SELECT version FROM pgvmig.active_space('documents')"
    with psycopg.connect(reader.dsn, autocommit=True) as conn:
        assert conn.execute(active).fetchone() == ("v1",)
        reader.run(["bash", "-c", "alembic upgrade head"])
        assert conn.execute(active).fetchone() == ("v2",)
        reader.run(["bash", "-c", "alembic downgrade base"])
        assert conn.execute(active).fetchone() == ("v1",)


def test_evaluation(reader: Reader) -> None:
    queries, qrels, printed, statement, *_ = blocks("docs/evaluation.md", "text")
    lines = [f'{{"id": "q{n}", "text": "passage number {n}"}}' for n in range(1, 21) if n not in (7, 8)]
    (reader.folder / "queries.jsonl").write_text(queries + "\n".join(lines))
    rows = [f"q{n}\t{n}\t1" for n in range(1, 21) if n not in (7, 8)]
    (reader.folder / "qrels.tsv").write_text(qrels + "\n".join(rows))
    (reader.folder / "search.sql").write_text(statement)
    reader.run(["pgvmig", "init"])
    prepare_switch(reader)
    assert reader.follow(ROOT / "docs" / "evaluation.md") > 10
    with psycopg.connect(reader.dsn) as conn:
        verdicts = "SELECT verdict, (figures ->> 'judged')::int, pilot FROM pgvmig.evaluation ORDER BY evaluation_id"
        assert conn.execute(verdicts).fetchall() == [("GO", 20, False)] * 4 + [(None, 0, False)]
    lines = reader.run(
        ["pgvmig", "evaluate", "documents", "v1", "v2", "--queries", "queries.jsonl", "--qrels", "qrels.tsv"]
    )
    of = [line.split()[0] for line in lines.splitlines() if line.strip()]
    assert [line.split()[0] for line in printed.splitlines() if not line.startswith("Judged rows")] == of[:6]


class IndexReader(Reader):
    """Who prepares each of the page's searches when the index is of its form, and looks whether it is used."""

    seen = 0

    def sql(self, text: str) -> None:
        form = ["none", "halfvec", "binary"][self.seen]
        self.seen += 1
        self.run(["pgvmig", "index", "documents", "v2", "--quantize", form])
        vector = "[" + ",".join(["1"] * 1536) + "]"
        with psycopg.connect(self.dsn) as conn:
            conn.execute("SET enable_seqscan = off; SET enable_sort = off; SET plan_cache_mode = force_custom_plan")
            conn.execute(f"PREPARE search AS {text}")
            plan = conn.execute(f"EXPLAIN EXECUTE search('{vector}', 10)").fetchall()
            assert "Index Scan using documents_embedding_v2_hnsw" in str(plan)
            assert len(conn.execute(f"EXECUTE search('{vector}', 10)").fetchall()) == 10


def test_indexes(reader: Reader) -> None:
    reader = IndexReader(reader.folder, reader.dsn, reader.environment)
    prepare_alembic(reader)
    with psycopg.connect(reader.dsn, autocommit=True) as conn:
        conn.execute("CREATE TABLE documents (id bigint PRIMARY KEY, title text, body text)")
        conn.execute("INSERT INTO documents SELECT i, 't' || i, 'passage ' || i FROM generate_series(1, 40) AS i")
        text = (ROOT / "docs" / "indexes.md").read_text(encoding="utf-8")
        built, searched = BLOCK.findall(text)[:3], BLOCK.findall(text)[3:]
        for kind, block in built:
            getattr(reader, kind)(block)
        conn.execute(
            "SELECT pgvmig.cut_over('documents', 'v2', skip => '{recall,identity,hashes,health,visibility}', "
            "reason => 'a test')"
        )
        for kind, block in searched:
            getattr(reader, kind)(block)
    assert reader.seen == 3


def test_every_command_is_in_the_reference() -> None:
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert [name for name in COMMANDS if f"`pgvmig {name}`" not in text] == []


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def prepare_adopt(reader: Reader) -> None:
    """Make the tables of the page, with the vectors that their application has written."""
    model = HashModel("text-embedding-ada-002", 1536)
    tables = {
        "documents": "id bigint PRIMARY KEY, body text, created_at date, embedding vector(1536)",
        "summaries": "id bigint PRIMARY KEY, body text, embedding vector(1536)",
        "notes": "id bigint PRIMARY KEY, body text, embedding vector",
        "langchain_pg_collection": "uuid uuid PRIMARY KEY, name varchar, cmetadata json",
        "langchain_pg_embedding": "id varchar PRIMARY KEY, collection_id uuid, embedding vector, document varchar, "
        "cmetadata jsonb",
        "chunks": "langchain_id uuid PRIMARY KEY, content text NOT NULL, embedding vector(1536) NOT NULL",
        "data_docs": "id bigint PRIMARY KEY, text varchar NOT NULL, metadata_ json, node_id varchar, "
        "embedding vector(1536)",
        "documents_embedding_store": "embedding_uuid uuid PRIMARY KEY, id bigint, chunk_seq int, chunk text, "
        "embedding vector(1536) NOT NULL",
    }
    for table, columns in tables.items():
        reader.sql(f"CREATE TABLE {table} ({columns})")
    reader.sql("CREATE SCHEMA ai; CREATE TABLE ai.vectorizer (config jsonb)")
    reader.sql(
        """INSERT INTO ai.vectorizer VALUES ('{"embedding": {"model": "text-embedding-ada-002", "dimensions": 1536},
           "destination": {"target_schema": "public", "target_table": "documents_embedding_store"}}')"""
    )
    reader.sql("INSERT INTO langchain_pg_collection VALUES (gen_random_uuid(), 'docs'), (gen_random_uuid(), 'short')")
    with psycopg.connect(reader.dsn, autocommit=True) as conn:
        for number in range(20):
            vector = str(model.embed([f"text {number}"])[0].tolist())
            for table, names, values in (
                ("documents", "id, body, created_at, embedding", "%(n)s, %(text)s, '2024-01-01', %(vector)s"),
                ("summaries", "id, body, embedding", "%(n)s, %(text)s, %(vector)s"),
                ("chunks", "langchain_id, content, embedding", "gen_random_uuid(), %(text)s, %(vector)s"),
                ("data_docs", "id, text, embedding", "%(n)s, %(text)s, %(vector)s"),
                ("documents_embedding_store", "embedding_uuid, id, chunk_seq, chunk, embedding",
                 "gen_random_uuid(), %(n)s, 0, %(text)s, %(vector)s"),
                ("langchain_pg_embedding", "id, collection_id, document, embedding",
                 "%(n)s, (SELECT uuid FROM langchain_pg_collection WHERE name = 'docs'), %(text)s, %(vector)s"),
            ):  # fmt: skip
                given = {"n": number, "text": f"text {number}", "vector": vector}
                conn.execute(f"INSERT INTO {table} ({names}) VALUES ({values})", given)


def test_adopt(reader: Reader) -> None:
    prepare_adopt(reader)
    for command in ("init", "standby none"):
        reader.run(["pgvmig", *command.split()])
    # the page adopts documents twice: the second time under another writer
    first, *rest = blocks("docs/adopt.md", "console")
    reader.console(first)
    reader.sql("SELECT pgvmig.release_version('documents', 'v1')")
    assert len(rest) > 5
    page = (ROOT / "docs" / "adopt.md").read_text(encoding="utf-8")
    followed = reader.folder / "rest.md"
    followed.write_text(page.split("## How sure a sample is", 1)[1], encoding="utf-8")
    assert reader.follow(followed) > 10
    with psycopg.connect(reader.dsn) as conn:
        adopted = conn.execute("SELECT relation::text, writer FROM pgvmig.version ORDER BY 1").fetchall()
    assert adopted == [
        ("chunks", "application"),
        ("data_docs", "application"),
        ("documents", "worker"),
        ("documents_embedding_store", "application"),
        ("langchain_pg_embedding", "application"),
    ]


def test_adopt_says_how_sure_a_sample_is() -> None:
    text = (ROOT / "docs" / "adopt.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\d,]+) \| ([\d.]+) % \|$", text, re.MULTILINE)
    assert len(rows) > 3
    for sampled, share in rows:
        digits = len(share.partition(".")[2])
        assert share == f"{100 * largest_missed(int(sampled.replace(',', ''))):.{digits}f}"
