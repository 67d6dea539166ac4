"""`pgvmig adopt`: what it looks at, each with its fault planted on real vectors, what it keeps, and what it takes."""

from __future__ import annotations

import re

import pytest
from adopting import WHO, fill, literal, versions
from commands import runner
from lifecycle import CONTRACT
from migrating import OwnProject

from pgvmig import adding, errors
from pgvmig.address import address
from pgvmig.demo.models import HashModel
from pgvmig.demo.providers import Provider
from pgvmig.runner import ConnectionRunner

V1 = address("documents", "v1")
TABLE = "CREATE TABLE documents (id int PRIMARY KEY, body text, embedding vector(8), made timestamptz, source text)"
INDEX = "CREATE INDEX own ON documents USING hnsw (embedding vector_{}_ops)"


@pytest.fixture
def pgvmig(site, monkeypatch, capsys):
    return runner(site.database.dsn, monkeypatch, capsys)


@pytest.fixture
def documents(site):
    """Forty rows whose vectors the provider `new` made, and two without."""
    site.execute(TABLE)
    fill(site, range(1, 41))
    site.execute("INSERT INTO documents (id, body) VALUES (41, 'none'), (42, 'none yet')")


def rows_on_disk(site):
    return site.execute(
        "SELECT pg_relation_filenode('documents'), array_agg((ctid, xmin, xmax, id)::text ORDER BY id) FROM documents"
    ).fetchone()


def events(site):
    return site.execute("SELECT source, verb, reason, detail FROM pgvmig.event ORDER BY event_id").fetchall()


@pytest.mark.majors(18, 16)
def test_a_populated_column_is_taken_without_rewriting_a_row(site, documents, pgvmig):
    site.execute(INDEX.format("cosine"))
    before = rows_on_disk(site)
    done = pgvmig("adopt", "documents.embedding", "--version", "v1", *WHO, "--dimensions", "8", "--json")
    assert (done.code, rows_on_disk(site)) == (0, before)
    assert {name: check["passed"] for name, check in done.checks.items()} == dict.fromkeys(
        ["index", "lengths", "identity"], True
    )
    assert done.checks["identity"]["found"] == (
        "hash of provider 'new' makes all 40 sampled vectors again (cosines: worst 1.000, median 1.000); the column "
        "has no others"
    )
    assert done.checks["index"]["found"] == "own ranks by cosine"
    assert done.json["notes"] == [
        {
            "found": "2 rows have no vector",
            "hazard": "No search finds them",
            "next": "its application writes them; --writer worker lets pgvmig do it",
        }
    ]
    assert (done.json["adopted"], done.json["target"], done.json["column"]) == (True, "documents", "embedding")
    assert versions(site) == [("v1", "active", "application", "embedding")]
    assert site.value("SELECT count(*) FROM documents_current") == 40
    (source, verb, reason, detail) = events(site)[-1]
    assert (source, verb, reason, detail["skipped"]) == ("cli", "adopt", None, [])
    assert detail["checks"]["identity"].startswith("hash of provider 'new' makes all 40")
    assert site.execute("SELECT gate, passed, measured ->> 'sampled' FROM pgvmig.evidence").fetchall() == [
        ("identity", True, "40")
    ]
    again = pgvmig("adopt", "documents", *WHO)
    assert (again.code, again.err.splitlines()) == (
        1,
        ["Error: documents v1 is adopted already, under this contract", "Next:  pgvmig status documents"],
    )
    # what the application writes is nothing for a worker to walk over
    assert "left to walk over" not in pgvmig("status", "documents").out


def test_checking_changes_nothing_and_a_revision_takes_what_it_found(site, documents, pgvmig, tmp_path):
    done = pgvmig("adopt", "documents", *WHO, "--print-revision")
    assert done.out == (
        "def upgrade():\n"
        "    op.adopt_embedding(\n"
        "        'documents',\n"
        "        'v1',\n"
        "        'embedding',\n"
        "        {\n"
        "            'model': 'hash',\n"
        "            'model_version': '1',\n"
        "            'dimensions': 8,\n"
        "            'input': 'body',\n"
        "            'provider': 'new',\n"
        "            'metric': 'cosine',\n"
        "        },\n"
        "        columns=['id', 'body', 'made', 'source', 'embedding'],\n"
        "        key=['id'],\n"
        "    )\n"
        "\n"
        "\n"
        "def downgrade():\n"
        "    op.release_embedding('documents', 'v1')\n"
    )
    assert versions(site) == []
    upgrade, downgrade = re.findall(r"def \w+\(\):\n(.*?)(?=\n\n\ndef|\Z)", done.out, re.DOTALL)
    project = OwnProject(site.database.url, tmp_path / "migrations")
    project.revision(upgrade.strip(), downgrade.strip())
    for _ in range(2):
        project.upgrade("head")
        assert versions(site) == [("v1", "active", "application", "embedding")]
        project.downgrade("base")
    detail = next(detail for _, verb, _, detail in events(site) if verb == "adopt")
    assert detail["checks"]["identity"].startswith("hash of provider 'new' makes all 40")
    assert "documents_v1" in project.sql("head")


def test_a_revision_says_that_nobody_has_asked_the_model(site, documents):
    run = ConnectionRunner(site.connection)
    with pytest.warns(UserWarning, match="nobody has compared") as said:
        adding.adopt(run, V1, "embedding", CONTRACT)
    (warning,) = said
    assert str(warning.message) == (
        "nobody has compared the vectors of documents.embedding with what hash makes: another model's, or two models', "
        "would be adopted unseen. Next: pgvmig adopt documents --version v1 --check"
    )


def test_a_sample_says_how_sure_it_is(site, documents, pgvmig):
    found = pgvmig("adopt", "documents", *WHO, "--check", "--sample", "20", "--json").checks["identity"]
    assert found["found"].endswith(
        "; if 13.9% of the column were something else, a sample of 20 would miss it in one case of twenty"
    )
    assert (found["measured"]["sampled"], round(found["measured"]["missed"], 3)) == (20, 0.139)
    fill(site, range(101, 201), "other")
    found = pgvmig("adopt", "documents", *WHO, "--check", "--sample", "100", "--json").checks["identity"]
    said = r"mixed: (\d+) of 100 sampled vectors are .* makes, ([\d.]+)% to ([\d.]+)% of the column \(95 % confidence\)"
    fit, least, most = map(float, re.match(said, found["found"]).groups())
    assert least < fit < most
    assert found["measured"]["share"] == [pytest.approx(least / 100, abs=0.001), pytest.approx(most / 100, abs=0.001)]


MIXED = "mixed: 30 of 45 sampled vectors are what hash of provider 'new' makes, 66.7% of the column; the others are not"


def test_two_models_in_one_column_are_refused_and_told_apart(site, pgvmig):
    site.execute(TABLE)
    fill(site, range(1, 31), made="2024-01-31 12:00+00", source="wiki")
    fill(site, range(31, 46), "other", made="2024-02-01 12:00+00", source="wiki")
    done = pgvmig("adopt", "documents", *WHO, "--json")
    found = done.checks["identity"]
    assert (done.code, done.json["passed"], done.json["adopted"], versions(site)) == (4, False, False, [])
    assert found["found"].startswith(MIXED)
    assert re.search(r": rows \(\d+(; \d+){4}, …\)\. made tells them apart: rows until 2024-01-31 ", found["found"])
    assert (found["measured"]["fit"], found["measured"]["sampled"]) == (30, 45)
    assert {int(key) for key in found["measured"]["keys"]} <= set(range(31, 46))
    with pytest.raises(errors.GateError) as error:
        adding.adopt(ConnectionRunner(site.connection), V1, "embedding", CONTRACT)
    assert str(error.value).startswith("documents v1 is not adopted: mixed: 30 of 45 sampled")
    assert str(error.value).endswith("; then pgvmig adopt documents --version v1 --check looks again")
    done = pgvmig("adopt", "documents", *WHO)
    assert done.code == 4
    assert done.err.splitlines()[-1] == (
        "Next:  rows of one model only can be adopted: move the others into a table of their own, or set their "
        "embedding to NULL and let the worker make them (--writer worker); docs/adopt.md has both"
    )
    # as that advice says
    site.execute("UPDATE documents SET embedding = NULL WHERE id > 30")
    done = pgvmig("adopt", "documents", *WHO, "--writer", "worker", "--json")
    assert (done.code, versions(site)) == (0, [("v1", "active", "worker", "embedding")])
    assert done.json["notes"][0]["next"] == "pgvmig backfill documents v1 embeds them"
    site.run("documents", "v1")
    assert site.value("SELECT count(*) FROM documents WHERE embedding IS NULL") == 0


def test_a_small_group_is_found_when_every_group_is_sampled(site, pgvmig):
    site.execute(TABLE)
    fill(site, range(1, 61), source=lambda n: f"s{n % 2}")
    fill(site, range(61, 63), "other", source="odd")
    done = pgvmig("adopt", "documents", *WHO, "--sample", "20", "--by", "source", "--json")
    found = done.checks["identity"]
    assert (done.code, found["passed"]) == (4, False)
    assert "about 96.8% of the column" in found["found"]
    assert found["found"].endswith(". By source: odd: 0 of 2 fit")
    assert [(g["value"], g["fit"], g["sampled"], g["vectors"]) for g in found["measured"]["groups"]] == [
        ("odd", 0, 2, 2),
        ("s0", 10, 10, 30),
        ("s1", 10, 10, 30),
    ]
    site.execute("DELETE FROM documents WHERE source = 'odd'")
    done = pgvmig("adopt", "documents", *WHO, "--sample", "20", "--by", "source", "--check", "--json")
    assert done.checks["identity"]["found"].endswith("; 2 values of source, at least 10 rows of each")
    done = pgvmig("adopt", "documents", *WHO, "--by", "nothing")
    assert done.err.splitlines() == [
        "Error: documents has no column nothing by which its rows could be told apart",
        "Next:  --by with one of made, source",
    ]


def test_another_model_and_another_text_are_told(site, documents, pgvmig):
    done = pgvmig("adopt", "documents", *WHO, "--provider", "other", "--model", "other", "--json")
    assert done.code == 4
    assert re.fullmatch(
        r"none of 40 sampled vectors is what other of provider 'other' makes \(cosines: worst .*, median .*\): another "
        r"model made them, or they are of other texts",
        done.checks["identity"]["found"],
    )
    done = pgvmig("adopt", "documents", *WHO, "--input", "'title: ' || body", "--json")
    assert done.code == 4
    assert pgvmig("adopt", "documents", *WHO, "--document-prefix", "passage: ", "--check").code == 4
    near = "l2_normalize(embedding + array_fill(0.1, ARRAY[vector_dims(embedding)])::vector)"
    site.execute(f"UPDATE documents SET embedding = {near} WHERE id BETWEEN 11 AND 40")
    done = pgvmig("adopt", "documents", *WHO)
    assert done.code == 4
    assert re.search(
        r"not adopted: 10 of 40 sampled vectors are what hash .*; the others are near \(cosines: worst 0\.[6-9].*\): "
        r"a near relation of the model made them, or input, prefix, preprocessing or truncation is another: rows \(",
        done.err,
    )
    assert done.err.splitlines()[-1] == (
        "Next:  compare input 'body', prefix and --max-input with the text that the application embeds; rows whose "
        "text has changed since are embedded again, or set embedding to NULL there and adopt with --writer worker"
    )
    site.execute("TRUNCATE documents")
    fill(site, range(1, 41))
    site.execute("UPDATE documents SET body = 'passage: ' || body")
    done = pgvmig("adopt", "documents", *WHO, "--input", "substr(body, 10)", "--check", "--json")
    assert (done.code, done.json["adopted"], versions(site)) == (0, False, [])


def test_a_provider_that_answers_otherwise_or_not_at_all(site, documents, pgvmig):
    site.server._providers["other"] = Provider(HashModel("other", 4))
    done = pgvmig("adopt", "documents", *WHO, "--provider", "other", "--model", "other", "--json")
    assert done.code == 4
    assert done.checks["identity"]["found"] == (
        "provider 'other' answers with what is not of this contract: vector 1 of 40 has 4 dimensions, the contract "
        "says 8"
    )


def test_a_published_table_waits_for_its_subscribers(site, documents, pgvmig):
    if site.value("SELECT current_setting('wal_level')") != "logical":
        site.connection.execute("SET client_min_messages = error")  # it warns that nobody could subscribe yet
    site.execute("CREATE PUBLICATION docs FOR TABLE documents")
    done = pgvmig("adopt", "documents", *WHO)
    assert (done.code, versions(site)) == (1, [])
    assert done.err.splitlines()[-1].endswith("), then add --published")
    assert pgvmig("adopt", "documents", *WHO, "--published").code == 0


def test_skipping_takes_a_reason_which_the_event_keeps(site, documents, pgvmig):
    done = pgvmig("adopt", "documents", *WHO, "--skip-identity")
    assert (done.code, done.err.splitlines()) == (
        2,
        [
            "Error: check identity is to be skipped and no reason is given",
            "Why:   Whoever finds vectors of another model later will ask why nobody looked",
            "Next:  add --reason '...'",
        ],
    )
    unknown = (*WHO, "--provider", "nowhere")
    done = pgvmig("adopt", "documents", *unknown, "--json")
    assert done.code == 4
    assert done.checks["identity"]["found"].startswith("provider 'nowhere' could not be asked: ")
    assert done.checks["identity"]["next"].endswith("; or --skip-identity --reason '...'")
    asked = len(site.server.requests)
    done = pgvmig("adopt", "documents", *unknown, "--skip-identity", "--reason", "the model is gone", "--json")
    assert (done.code, done.checks["identity"]["skipped"], len(site.server.requests)) == (0, True, asked)
    (_, _, reason, detail) = events(site)[-1]
    assert (reason, detail["skipped"]) == ("the model is gone", ["identity"])
    assert site.value("SELECT count(*) FROM pgvmig.evidence") == 0  # nothing was measured


def test_an_index_that_ranks_by_another_metric_is_refused(site, documents, pgvmig):
    site.execute(INDEX.format("l2"))
    done = pgvmig("adopt", "documents", *WHO)
    assert done.code == 4
    assert "Error: documents v1 is not adopted: own ranks by l2, the contract says cosine" in done.err.splitlines()
    assert done.err.splitlines()[-1] == (
        "Next:  if the service ranks by l2, say metric 'l2'; else it has never used this index: CREATE INDEX "
        'CONCURRENTLY ON "public"."documents" USING hnsw ("embedding" "vector_cosine_ops"); '
        "DROP INDEX CONCURRENTLY public.own"
    )
    with pytest.raises(errors.GateError, match="own ranks by l2, the contract says cosine"):
        adding.adopt(ConnectionRunner(site.connection), V1, "embedding", CONTRACT)
    assert pgvmig("adopt", "documents", *WHO, "--metric", "l2", "--check").code == 0
    site.execute("CREATE INDEX other ON documents USING hnsw (embedding vector_cosine_ops)")
    done = pgvmig("adopt", "documents", *WHO, "--check", "--json")
    assert done.checks["index"]["found"] == "other ranks by cosine, own ranks by l2"
    site.execute("DROP INDEX other")
    done = pgvmig("adopt", "documents", *WHO, "--skip", "index", "--reason", "dropped tonight")
    assert (done.code, versions(site)[0][:2]) == (0, ("v1", "active"))


def test_lengths_must_be_what_the_contract_says(site, pgvmig):
    site.execute(TABLE)
    fill(site, range(1, 11), factor=3)
    site.execute("INSERT INTO documents (id, body, embedding) VALUES (11, 'zero', '[0,0,0,0,0,0,0,0]')")
    done = pgvmig("adopt", "documents", *WHO, "--json")
    assert (done.code, done.checks["lengths"]["found"]) == (
        4,
        "of 11 sampled vectors 1 are zero, 10 are not 1 ± 0.01 long; lengths 0 to 3",
    )
    site.execute("DELETE FROM documents WHERE id = 11")
    done = pgvmig("adopt", "documents", *WHO, "--json")
    assert done.checks["lengths"]["next"] == (
        "if the model does not normalise, say normalized false (--not-normalized); else another model wrote them"
    )
    with pytest.raises(errors.ContractError) as error:
        adding.adopt(ConnectionRunner(site.connection), V1, "embedding", CONTRACT | {"query_prefix": "q: "})
    assert str(error.value).startswith("of 10 sampled vectors 10 are not 1 ± 0.01 long; lengths 3 to 3. ")
    # the provider's are 1 long, those here 3: not what it makes
    assert pgvmig("adopt", "documents", *WHO, "--not-normalized", "--check").code == 4


def test_a_column_of_any_dimensions_is_counted(site, pgvmig):
    site.execute(TABLE.replace("vector(8)", "vector"))
    fill(site, range(1, 10))
    site.execute("INSERT INTO documents (id, body, embedding) VALUES (10, 'ten', '[1,0,0,0]')")
    done = pgvmig("adopt", "documents", *WHO, "--dimensions", "8", "--json")
    assert (done.code, done.checks["dimensions"]["found"]) == (
        4,
        "mixed: of 10 vectors 9 (90.0%) have 8 dimensions, 1 have 4",
    )
    assert pgvmig("adopt", "documents", *WHO).err.startswith("Error: the contract lacks dimensions")
    site.execute("DELETE FROM documents WHERE id = 10")
    done = pgvmig("adopt", "documents", *WHO, "--dimensions", "8", "--json")
    assert (done.code, [note["found"] for note in done.json["notes"]]) == (
        0,
        ["documents.embedding takes vectors of any dimensions"],
    )


@pytest.mark.parametrize(
    ("column", "target", "options", "found"),
    [
        (
            '"Vec %%" halfvec(8) NOT NULL',
            "documents",
            ["--column", "Vec %"],
            ["Vec % is NOT NULL", "Vec % has no index"],
        ),
        ("vec vector(8)", "documents.vec", [], ["vec has no index"]),
    ],
    ids=["another column, halfvec", "a slot named as its column"],
)
def test_columns_are_called_as_people_call_them(site, pgvmig, column, target, options, found):  # noqa: PLR0917
    site.connection.execute(f"CREATE TABLE documents (id int PRIMARY KEY, body text, {column.replace('%%', '%')})")
    fill(site, range(1, 6), column=column.rsplit(" halfvec")[0].split(" vector")[0])
    done = pgvmig("adopt", target, *options, *WHO, "--json")
    assert (done.code, versions(site)[0][3]) == (0, "Vec %" if options else "vec")
    assert [note["found"] for note in done.json["notes"]] == [f"documents.{what}" for what in found]
    view, shown = ("documents_current", "embedding") if options else ("documents_vec_current", "vec")
    assert site.value(f"SELECT count({shown}) FROM {view}") == 5


def test_what_is_not_there_is_said(site, documents, pgvmig):
    said = {
        ("adopt", "documents.body", *WHO): [
            "Error: documents has no vector column body; it has embedding",
            "Next:  --column embedding",
        ],
        ("adopt", "nothing", *WHO): [
            "Error: there is no table nothing",
            "Next:  write [schema.]table[.slot], such as documents",
        ],
        ("adopt", *WHO): [
            "Error: which table holds the vectors?",
            "Next:  pgvmig adopt documents --version v1 ...",
        ],
        ("adopt", "documents", "--preset", "pgai", *WHO): [
            "Error: documents has no column embedding_uuid, chunk_seq, chunk: pgai's vectorizer did not make it",
            "Next:  name the table that it made, or leave --preset out and say --input",
        ],
    }
    for arguments, lines in said.items():
        done = pgvmig(*arguments)
        assert (done.code in (1, 2), done.err.splitlines()) == (True, lines)


def test_the_contract_may_be_in_a_file(site, documents, pgvmig, tmp_path):
    toml, json_file = tmp_path / "c.toml", tmp_path / "c.json"
    toml.write_text('provider = "new"\nmodel = "hash"\nmodel_version = "0"\ninput = "body"\n')
    json_file.write_text("[1]")
    done = pgvmig("adopt", "documents", "--contract", str(json_file))
    assert (done.code, done.err.splitlines()[0]) == (2, f"Error: {json_file} holds no keys of a contract")
    done = pgvmig("adopt", "documents", "--contract", str(toml), "--model-version", "1", "--json")
    assert done.code == 0
    assert site.value("SELECT definition ->> 'model_version' FROM pgvmig.contract") == "1"


def test_an_expression_is_no_way_in(site, documents, pgvmig):
    for expression in (
        "body); DROP TABLE documents; --",
        "body) FROM documents; --",
        "(SELECT 'x')",
        "pg_sleep(9)::text",
    ):
        done = pgvmig("adopt", "documents", *WHO, "--input", expression)
        assert (done.code, versions(site)) == (2, []), expression
    assert site.value("SELECT count(*) FROM documents") == 42


def test_an_empty_table_is_adopted_without_asking_anybody(site, pgvmig):
    site.execute(TABLE)
    done = pgvmig("adopt", "documents", *WHO, "--json")
    assert (done.code, done.checks["identity"]["found"], site.server.requests) == (
        0,
        "there are no vectors to make again",
        [],
    )


def test_rows_that_are_hidden_are_an_error(site, documents, pgvmig, monkeypatch):
    """A sample of what one role may see would say nothing of the column."""
    role = f"{site.connection.info.dbname}_looker"
    site.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    try:
        site.execute(f"GRANT ALL ON documents TO {role}; GRANT ALL ON SCHEMA public TO {role}")
        site.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA pgvmig TO {role}")
        site.execute(f"GRANT ALL ON ALL FUNCTIONS IN SCHEMA pgvmig TO {role}")
        site.execute("ALTER TABLE documents ENABLE ROW LEVEL SECURITY")
        monkeypatch.setenv("PGVMIG_DSN", f"{site.database.dsn} user={role} password=x")
        assert "row-level security" in pgvmig("adopt", "documents", *WHO, "--check").err
    finally:
        site.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_rows_without_text_are_left_out(site, documents, pgvmig):
    vector = literal(site, "other", "anything")
    site.execute("INSERT INTO documents (id, body, embedding) VALUES (50, ' ', %s), (51, NULL, %s)", vector, vector)
    done = pgvmig("adopt", "documents", *WHO, "--check", "--json")
    assert (done.code, done.checks["identity"]["measured"]["without_text"]) == (0, 2)


@pytest.mark.majors(18, 16)
def test_a_partitioned_table_is_sampled_in_its_partitions(site, pgvmig):
    site.execute(TABLE + " PARTITION BY RANGE (id)")
    site.execute("CREATE TABLE early PARTITION OF documents FOR VALUES FROM (0) TO (20)")
    site.execute("CREATE TABLE late PARTITION OF documents FOR VALUES FROM (20) TO (99)")
    fill(site, range(1, 20))
    fill(site, range(20, 31), "other", source="late")
    for options in ([], ["--by", "source"]):
        done = pgvmig("adopt", "documents", *WHO, *options, "--check", "--json")
        assert (done.code, done.checks["identity"]["measured"]["fit"]) == (4, 19)
    site.execute("UPDATE documents SET embedding = NULL WHERE id >= 20")
    assert pgvmig("adopt", "documents", *WHO, "--writer", "worker").code == 0
    site.run("documents", "v1")
    assert site.value("SELECT count(*) FROM documents_current") == 30
