"""Sessions whose search_path puts somebody's schema before PostgreSQL's own: nothing of his may run."""

from __future__ import annotations

import sys
from contextlib import ExitStack

import bouncer
import psycopg
import pytest
from backfilling import Site
from lifecycle import add_version, embed, prove
from migrating import OwnProject
from psycopg.conninfo import make_conninfo
from sqlalchemy import make_url

from pgvmig.backfill import worker
from pgvmig.backfill.options import Options
from pgvmig.catalog import connection
from pgvmig.catalog.schema import require
from pgvmig.cli import cli, output
from pgvmig.errors import ConfigError
from pgvmig.runner import ConnectionRunner

# What our queries call by its bare name, with PostgreSQL's own argument types: the first on the path is taken.
EVIL = """
CREATE SCHEMA evil;
CREATE TABLE evil.ran (what text);
CREATE FUNCTION evil.set_config(text, text, boolean) RETURNS text LANGUAGE sql AS
    $$ INSERT INTO evil.ran VALUES ('set_config'); SELECT pg_catalog.set_config($1, $2, $3) $$;
CREATE FUNCTION evil.to_regclass(text) RETURNS regclass LANGUAGE sql AS
    $$ INSERT INTO evil.ran VALUES ('to_regclass'); SELECT pg_catalog.to_regclass($1) $$;
CREATE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS
    $$ INSERT INTO evil.ran VALUES ('clock_timestamp'); SELECT pg_catalog.clock_timestamp() $$;
CREATE FUNCTION evil.format(text, VARIADIC "any") RETURNS text LANGUAGE internal AS 'text_format';
CREATE FUNCTION evil.equal(oid, oid) RETURNS boolean LANGUAGE sql AS
    $$ INSERT INTO evil.ran VALUES ('='); SELECT $1 OPERATOR(pg_catalog.=) $2 $$;
CREATE OPERATOR evil.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = evil.equal);
"""
HOSTILE = "evil, pg_catalog, public"
REFUSED = (
    "search_path = evil, pg_catalog, public puts evil before pg_catalog. Functions and operators there would be run in "
    "place of PostgreSQL's own, with your rights. Next: ALTER ROLE ... SET search_path without pg_catalog, which then "
    "comes first; or for pgvmig alone PGOPTIONS='-c search_path=public'"
)


@pytest.fixture
def hostile(site: Site) -> Site:
    site.documents(5)
    site.connection.execute(EVIL)
    yield site
    assert site.value("SELECT count(*) FROM evil.ran") == 0


def dsn_of(site, path):
    return make_conninfo(site.database.dsn, options=f"-c search_path={path.replace(' ', '')}")


def test_the_schema_does_what_the_tests_fear(site):
    site.connection.execute(EVIL)
    with psycopg.connect(dsn_of(site, HOSTILE), autocommit=True) as session:
        session.execute("SELECT set_config('a.b', 'c', true) FROM pg_class WHERE oid = 'pg_class'::regclass::oid")
    assert set(site.execute("SELECT what FROM evil.ran").fetchall()) == {("set_config",), ("=",)}


def test_a_worker_and_commands_refuse_to_work(hostile, monkeypatch, capsys):
    hostile.version()
    with pytest.raises(ConfigError) as refused:
        worker.run(Options(dsn=dsn_of(hostile, HOSTILE), max_time=5, lease=5.0))
    assert str(refused.value).replace("evil,pg_catalog,public", HOSTILE) == REFUSED
    monkeypatch.setattr(sys, "argv", ["pgvmig", "status", "--dsn", dsn_of(hostile, HOSTILE)])
    assert output.run(cli) == ConfigError.exit_code == 2
    assert "puts evil before pg_catalog" in capsys.readouterr().err


def test_so_does_a_revision(hostile, tmp_path):
    url = make_url(hostile.database.url).update_query_dict({"options": "-csearch_path=evil,pg_catalog,public"})
    project = OwnProject(url.render_as_string(hide_password=False), tmp_path)
    project.revision("op.add_embedding('documents', 'v2', CONTRACT)")
    with pytest.raises(ConfigError, match="puts evil before pg_catalog"):
        project.upgrade()


@pytest.mark.parametrize(
    ("path", "accepted"),
    [
        ("evil, public", True),  # pg_catalog comes first where it is not named
        ("pg_catalog, evil", True),
        ('"$user", public', True),
        ("", True),
        ("pg_temp, pg_catalog", True),
        ('"a""b", pg_catalog', False),
        ('"with, comma", "pg_catalog"', False),
        ('"pg_catalog, evil", public, pg_catalog', False),
    ],
)
def test_which_paths_are_hostile(path, accepted):
    if accepted:
        connection.require_own_functions(path)
        return
    with pytest.raises(ConfigError):
        connection.require_own_functions(path)


def test_functions_for_services_run_nothing_of_it(hostile):
    """Whoever calls them, with whatever path: they have their own."""
    version = add_version(hostile.connection, "documents", "v1")
    embed(hostile.connection, version)
    prove(hostile.connection, version)
    with psycopg.connect(dsn_of(hostile, HOSTILE), autocommit=True) as session:
        for call in (
            "pgvmig.operator_cut_over('documents', 'v1', skip => '{index}', reason => 'a test')",
            "pgvmig.require_space('documents', 'v1')",
            "pgvmig.active_space('documents')",
            "pgvmig.routed_space('documents', 'key')",
            "pgvmig.set_route('documents', 'v1', 0)",
            "pgvmig.refresh_views('documents')",
            "pgvmig.coverage(1)",
        ):
            try:
                session.execute(f"SELECT {call}")
            except psycopg.Error as error:
                assert error.sqlstate.startswith("PV"), error  # noqa: PT017  # refused, and not by an evil function
        session.execute("INSERT INTO public.documents (body) VALUES ('one more')")
        with pytest.raises(ConfigError):
            require(ConnectionRunner(session))


# Types that fit better than those of PostgreSQL's own operators, in the schema that everybody has on the path.
OVERLOADS = """
CREATE FUNCTION public.boom(regclass, regclass) RETURNS boolean LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'runs as %', current_user; END $$;
CREATE OPERATOR public.= (LEFTARG = regclass, RIGHTARG = regclass, FUNCTION = public.boom);
CREATE FUNCTION public.boom(oid, regclass) RETURNS boolean LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'runs as %', current_user; END $$;
CREATE OPERATOR public.= (LEFTARG = oid, RIGHTARG = regclass, FUNCTION = public.boom);
CREATE FUNCTION public.boom(integer, numeric) RETURNS numeric LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'runs as %', current_user; END $$;
CREATE OPERATOR public.- (LEFTARG = integer, RIGHTARG = numeric, FUNCTION = public.boom);
"""
# A trigger of the application's that finds its table by the session's path, and only at the commit.
AUDIT = """
CREATE TABLE audit (id bigint);
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO audit VALUES (NEW.id); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER audit AFTER UPDATE ON documents DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit();
"""
COMMANDS = [
    ["status"],
    ["plan", "documents", "v2"],
    ["pause", "documents"],
    ["resume", "documents"],
    ["throttle", "documents", "--max-lag", "5s"],
    ["index", "documents", "v2", "--now"],
]


@pytest.mark.parametrize("pooled", [False, True])
def test_an_overload_that_fits_better_is_not_run(site, monkeypatch, capsys, pooled):
    """Whoever may create in `public` waits for a superuser, who looks at the status."""
    if pooled and bouncer.program() is None:
        pytest.skip("PgBouncer is not installed")
    site.documents(20)
    site.version()
    site.connection.execute(AUDIT)
    site.connection.execute(OVERLOADS)
    with pytest.raises(psycopg.Error, match="runs as"):
        site.connection.execute("SELECT FROM pgvmig.slot s WHERE s.relation = 'documents'::regclass")
    with ExitStack() as stack:
        dsn = stack.enter_context(bouncer.bouncing(site.database.dsn)).dsn if pooled else site.database.dsn
        assert stack.enter_context(connection.connect(dsn)).pooled == pooled
        assert worker.run(Options(dsn=dsn, max_time=60, lease=5.0)).why == "done"
        for command in COMMANDS:
            monkeypatch.setattr(sys, "argv", ["pgvmig", *command, "--dsn", dsn])
            assert output.run(cli) == 0, capsys.readouterr()
    assert site.value("SELECT count(*) FROM audit") == 20
