"""Every name and text that somebody else chooses, written as whoever wants to run a statement of his own would."""

from __future__ import annotations

import subprocess

import pytest
from backfilling import Site
from lifecycle import CONTRACT, add_version, embed, find, prove, retire
from migrating import OwnProject
from psycopg import sql

from pgvmig import adding, embedded, indexing, routing, switch
from pgvmig.address import address
from pgvmig.catalog import roles
from pgvmig.demo.model_server import serving
from pgvmig.demo.models import HashModel
from pgvmig.errors import PgvmigError
from pgvmig.runner import ConnectionRunner
from pgvmig.terms import Terms

NASTY = {
    "quotes": """"'); DROP TABLE victim; -- $$ $capture$ %s {} %1$I""",
    "backslashes and lines": "\\'; DROP TABLE victim; --\n\\! false\nE'\t%(x)s {table} %L",
}

nasty = pytest.mark.parametrize("name", NASTY.values(), ids=NASTY.keys())


@pytest.fixture
def place(database, name, monkeypatch):
    """A schema, a table and columns of that name, a model of that name, and somebody else's table."""
    with serving({"new": HashModel(name, 8)}) as server:
        monkeypatch.setenv("PGVMIG_NEW_BASE_URL", server.base_url("new"))
        site = Site(database, server)
        make_table(site.connection, name)
        yield site
        assert site.value("SELECT count(*) FROM victim") == 1


def make_table(connection, name):
    connection.execute("CREATE TABLE victim AS SELECT 1 AS one")
    connection.execute(
        sql.SQL(
            "CREATE SCHEMA {name}; CREATE TABLE {name}.{name} ({name} text PRIMARY KEY, {body} text, other text); "
            "INSERT INTO {name}.{name} SELECT {text} || i, {text} || i FROM generate_series(1, 20) AS i"
        ).format(name=sql.Identifier(name), body=sql.Identifier(body(name)), text=sql.Literal(name))
    )


def body(name):
    return f"body {name}"


def contract(name, number):
    quoted = '"' + body(name).replace('"', '""') + '"'
    texts = dict.fromkeys(("model", "document_prefix", "query_prefix", "preprocessing", "chunking"), name)
    return CONTRACT | texts | {"model_version": f"{name}{number}", "input": f"coalesce({quoted}, '')"}


@nasty
@pytest.mark.layouts
def test_the_whole_life_of_a_version(place, name, layout, pgvmig):
    slot, run = f"s{name}", ConnectionRunner(place.connection)

    def where(version):
        return address(name, version, name, slot)

    target = where("v1").label.removesuffix(" v1")

    def command(*arguments):
        done = pgvmig(*arguments, "--json")
        assert done.code == 0, done
        return done.json

    def add(number):
        with place.connection.transaction():
            adding.add(run, where(f"v{number}"), contract(name, number), layout=layout)
        if number == 1:
            assert place.run(target, f"v{number}").why == "done"
        else:
            command("backfill", target, f"v{number}")
        indexing.build(run, where(f"v{number}"))
        prove(place.connection, find(place.connection, where(f"v{number}")))

    add(1)
    switch.cut_over(run, where("v1"), Terms(reason=name))
    place.execute(
        sql.SQL("UPDATE {0}.{0} SET {1} = 'changed' WHERE {0} LIKE '%1'")
        .format(sql.Identifier(name), sql.Identifier(body(name)))
        .as_string()
    )
    add(2)
    command("backfill", target)
    routing.set_route(run, where("v2"), add_keys=[name], terms=Terms(reason=name))
    assert routing.unroute(run, where("v2"), name)["removed"] == [name]
    command("cutover", target, "v2", "--reason", name)
    command("smoke", "add", target, name, "--expect", f"{name}3")
    assert command("rollback", target, "--reason", name)["version"] == "v1"
    command("pause", target, "v1", "--reason", name)
    command("resume", target, "v1")
    command("throttle", target, "--nice", "1")
    assert {v["model"] for v in command("status")["versions"]} <= {name, None}
    command("plan", target, "v1")
    retire(run, where("v2"), name)
    with place.connection.transaction():
        adding.drop(run, where("v2"))
    reasons = place.execute("SELECT DISTINCT reason FROM pgvmig.event WHERE reason IS NOT NULL").fetchall()
    assert name in [reason for (reason,) in reasons]
    assert place.value("SELECT definition ->> 'document_prefix' FROM pgvmig.contract LIMIT 1") == name


@nasty
@pytest.mark.bare
@pytest.mark.parametrize("offline", [False, True])
def test_revisions(database, name, layout, tmp_path, offline):
    """Adding, indexing, switching and dropping, as Alembic runs them and as the script that a DBA runs with psql."""
    connection = database.connect()
    make_table(connection, name)
    project = OwnProject(database.url, tmp_path)
    place = f"schema={name!r}, slot={'s' + name!r}"
    columns = [name, body(name)]
    prefix = name[:40]
    project.revision(f"op.install_pgvmig(); op.create_pgvmig_roles({prefix!r}, None, True)", "op.drop_pgvmig_roles()")
    project.revision(
        f"op.add_embedding({name!r}, 'v1', {contract(name, 1)!r}, columns={columns!r}, key={[name]!r}, {place})",
        f"op.drop_embedding({name!r}, 'v1', {place})",
    )
    project.revision(
        f"op.index_embedding({name!r}, 'v1', after_backfill=True, {place})",
        f"op.drop_embedding_index({name!r}, 'v1', {place})",
    )
    project.revision(
        f"op.cut_over_embedding({name!r}, 'v1', {place})", f"op.roll_back_embedding({name!r}, 'v1', {place})"
    )
    connection.execute(sql.SQL("DELETE FROM {0}.{0}").format(sql.Identifier(name)))  # no rows, no gates
    drop = "pgvmig_drop=" + address(name, "v1", name, f"s{name}").label.replace(" v1", ".v1")
    if offline:
        psql(database, project.sql())
        assert find(connection, address(name, "v1", name, f"s{name}")).state == "active"
        psql(database, project.sql("r4:base", drop))
    else:
        project.upgrade()
        assert find(connection, address(name, "v1", name, f"s{name}")).state == "active"
        project.downgrade("r3")
        connection.execute(sql.SQL("INSERT INTO {0}.{0} VALUES ('1', 'one')").format(sql.Identifier(name)))
        embed(connection, find(connection, address(name, "v1", name, f"s{name}")))
        with pytest.raises(PgvmigError, match="has vectors, its index is not dropped"):
            project.downgrade("r1")
        project.downgrade("base", drop)
    assert connection.execute("SELECT count(*) FROM victim").fetchone() == (1,)
    assert connection.execute("SELECT count(*) FROM pg_roles WHERE starts_with(rolname, %s)", [prefix]).fetchone() == (
        0,
    )


def psql(database, script):
    program = embedded._package(18) / "pginstall18" / "bin" / "psql"
    done = subprocess.run(
        [program, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", f"--dbname={database.dsn}"],
        input=script, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


REFUSED = {
    "version": lambda run: address("documents", "v1; DROP TABLE victim"),
    "index method": lambda run: indexing.build(run, V1, method="hnsw (id); DROP TABLE victim; --"),
    "index option": lambda run: indexing.build(run, V1, options={"m) ; DROP TABLE victim; --": 16}),
    "value of an index option": lambda run: indexing.build(run, V1, options={"m": "16); DROP TABLE victim; --"}),
    "search setting": lambda run: adding.set_search(run, V1, {"hnsw.ef_search = 1; DROP TABLE victim; --": 1}),
    "value of a search setting": lambda run: adding.set_search(run, V1, {"ef_search": "1; DROP TABLE victim; --"}),
    "layout": lambda run: adding.add(run, V2, CONTRACT, layout="table; DROP TABLE victim"),
    "vector type": lambda run: adding.add(run, V2, CONTRACT | {"vector_type": "vector; DROP TABLE victim"}),
    "metric": lambda run: adding.add(run, V2, CONTRACT | {"metric": "cosine; DROP TABLE victim"}),
    "dimensions": lambda run: adding.add(run, V2, CONTRACT | {"dimensions": "8); DROP TABLE victim; --"}),
    "input": lambda run: adding.add(run, V2, CONTRACT | {"input": "body)::text; DROP TABLE victim; --"}),
    "input of two tables": lambda run: adding.add(run, V2, CONTRACT | {"input": "body) FROM victim; --"}),
    "gate to be skipped": lambda run: switch.cut_over(run, V1, Terms(skip=["'; DROP TABLE victim; --"], reason="why")),
    "NUL in a model": lambda run: adding.add(run, V2, CONTRACT | {"model": "a\0b"}),
    "NUL in a prefix": lambda run: adding.add(run, V2, CONTRACT | {"document_prefix": "\0"}),
    "NUL in a table": lambda run: adding.add(run, address("docu\0ments", "v2"), CONTRACT),
    "NUL in a reason": lambda run: routing.unroute(run, V1, "\0"),
    "prefix of roles": lambda run: roles.create(run, "\0", allow_superuser=True),
}
V1, V2 = address("documents", "v1"), address("documents", "v2")


@pytest.mark.parametrize("attempt", REFUSED.values(), ids=REFUSED.keys())
def test_what_can_be_no_name_is_refused(refusing, attempt):
    with pytest.raises(PgvmigError):
        attempt(refusing)
    assert refusing.connection.execute("SELECT count(*) FROM victim").fetchone() == (1,)


@pytest.fixture(scope="module")
def refusing(servers):
    with servers.get(servers.default_major).database(installed=True) as database:
        connection = database.connect()
        connection.execute("CREATE TABLE victim AS SELECT 1; CREATE TABLE documents (id int PRIMARY KEY, body text)")
        add_version(connection, "documents", "v1")
        yield ConnectionRunner(connection)
