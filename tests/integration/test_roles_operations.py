"""Creating and dropping the roles: again, by two databases, by a revision, and never so that somebody gets too much."""

from __future__ import annotations

import psycopg
import pytest
from lifecycle import embed, prove
from migrating import OwnProject
from psycopg import errors as pg
from psycopg import sql
from roles import DUTIES, Cast

from pgvmig import indexing
from pgvmig.catalog import roles
from pgvmig.errors import (
    ConflictError,
    IllegalTransitionError,
    NotFoundError,
    TooMightyError,
    UsageError,
)
from pgvmig.runner import ConnectionRunner

# Runs whenever the gates read the input: with whose rights, and what they are good for.
ATTACK = """
CREATE TABLE app.seen (who text, got text);
CREATE OR REPLACE FUNCTION app.clean(text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        EXECUTE 'ALTER ROLE {owner} SUPERUSER';
        INSERT INTO app.seen VALUES (current_user, 'everything');
    EXCEPTION WHEN insufficient_privilege THEN
        INSERT INTO app.seen VALUES (current_user, 'nothing');
    END;
    RETURN trim($1);
END $$
"""


@pytest.fixture
def cast(database, layout):
    cast = Cast(database, layout)
    yield cast
    cast.close()


def names_of(cast, database=None):
    return [
        name
        for (name,) in cast.root.execute(
            "SELECT rolname FROM pg_roles WHERE rolname = ANY (%s)", [[f"{cast.name}_{duty}" for duty in DUTIES]]
        )
    ]


def ready(cast, name="v1"):
    """Add a version with a vector of every row, an index and evidence."""
    version = cast.add(name, "app.clean(body)", cast.superuser)
    embed(cast.root, version)
    indexing.build(ConnectionRunner(cast.root), cast.where(name))
    prove(cast.root, version)
    return version


def privileges(cast, duty):
    """Whatever a duty's role may do in this database, anywhere."""
    return cast.root.execute(
        "SELECT classid::regclass::text, objid::regclass::text FROM pg_shdepend "
        "WHERE refobjid = %s::regrole AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())",
        [f"{cast.name}_{duty}"],
    ).fetchall()


def test_a_superusers_rights_are_not_lent(cast):
    with pytest.raises(TooMightyError) as refused:
        roles.create(ConnectionRunner(cast.root), cast.name)
    assert str(refused.value) == (
        f"operators would act with the rights of {cast.superuser}, which is a superuser. A cutover runs the functions "
        "that the input calls. Whoever owns those could become superuser when an operator switches. Next: give the "
        "control schema to a role that is a member of the tables' owners and no more: "
        'op.create_pgvmig_roles(owner="..."), or pgvmig roles create --owner ...'
    )
    assert names_of(cast) == []


def test_nor_those_of_one_who_can_become_a_superuser(cast):
    cast.execute("GRANT pg_execute_server_program TO {migrator}")
    with pytest.raises(TooMightyError, match="a member of pg_execute_server_program"):
        cast.create_roles()
    cast.execute("REVOKE pg_execute_server_program FROM {migrator}")
    ready(cast)
    cast.create_roles()
    cast.execute("ALTER ROLE {migrator} SUPERUSER")  # afterwards
    with cast.connected("operator") as operator, pytest.raises(psycopg.Error) as refused:
        operator.execute("SELECT pgvmig.operator_cut_over('app.documents', 'v1')")
    assert refused.value.sqlstate == "PV011"


@pytest.mark.parametrize("as_superuser", [False, True])
def test_what_the_tables_owner_gains_by_an_operators_switch(cast, as_superuser):
    ready(cast)
    cast.execute("UPDATE app.documents SET body = 'another text' WHERE id = 1")  # the gates look whether it is fresh
    done = cast.create_roles(**({"owner": None, "allow_superuser": True} if as_superuser else {}))
    assert (f"{cast.name}_admin gets no rights" in str(done["warnings"])) is as_superuser
    with cast.connected(cast.migrator) as connection:  # what the owner may do, the migrator may
        connection.execute("SET ROLE " + cast.owner)
        connection.execute(ATTACK.replace("{owner}", cast.owner))
    with cast.connected("operator") as operator:
        operator.execute("SELECT pgvmig.operator_cut_over('app.documents', 'v1')")
    seen = cast.root.execute("SELECT DISTINCT who, got FROM app.seen").fetchall()
    became = cast.value(f"SELECT rolsuper FROM pg_roles WHERE rolname = '{cast.owner}'")
    expected = (cast.superuser, "everything") if as_superuser else (cast.migrator, "nothing")
    assert (seen, became) == ([expected], as_superuser)


@pytest.mark.layouts
def test_functions_that_lend_rights_are_pinned_and_nobodys(cast):
    cast.add("v1", "body", cast.superuser)
    found = cast.root.execute(
        "SELECT p.oid::regprocedure::text, p.proconfig, "
        "EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a WHERE a.grantee = 0) "
        "FROM pg_proc p WHERE p.pronamespace = 'pgvmig'::regnamespace AND p.prosecdef"
    ).fetchall()
    assert len(found) > 8
    for name, config, public in found:
        assert "search_path=pg_catalog, pg_temp" in (config or []), name
        assert not public, name
    unpinned = cast.root.execute(
        "SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang "
        "WHERE p.pronamespace = 'pgvmig'::regnamespace AND l.lanname = 'plpgsql' "
        "AND 'search_path=pg_catalog, pg_temp' <> ALL (coalesce(p.proconfig, '{}'))"
    ).fetchall()
    assert unpinned == []


@pytest.mark.layouts
def test_rights_go_with_their_version(cast):
    cast.create_roles()
    cast.add("v1", "body")
    before = {duty: privileges(cast, duty) for duty in DUTIES}
    columns = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'app.documents'::regclass AND attacl IS NOT NULL"
    granted = cast.value(columns)
    cast.add("v2", "secret", columns=["id", "body", "tenant"])
    assert cast.value(columns) > granted  # the input's, and what it writes
    assert privileges(cast, "reader") != before["reader"]
    cast.execute("SELECT pgvmig.drop_version('app.documents', 'v2')")
    assert {duty: privileges(cast, duty) for duty in DUTIES} == before
    assert cast.value(columns) == granted
    cast.execute("SELECT pgvmig.drop_version('app.documents', 'v1')")
    assert cast.value(columns.replace("attacl IS NOT NULL", "attacl::text LIKE '%cast%'")) == 0


@pytest.mark.layouts
def test_a_column_that_comes_later_is_readable_once_views_show_it(cast):
    cast.create_roles()
    cast.add("v1", "body")
    cast.execute(
        "ALTER TABLE app.documents ADD COLUMN later int DEFAULT 7; ALTER TABLE app.documents RENAME secret TO hidden"
    )
    assert cast.value("SELECT pgvmig.refresh_views('app.documents')") == ["later"]
    with cast.connected("reader") as reader:
        assert reader.execute("SELECT count(later) FROM app.documents_v1").fetchone() == (0,)
        with pytest.raises(pg.UndefinedColumn):
            reader.execute("SELECT hidden FROM app.documents_v1")
        with pytest.raises(pg.InsufficientPrivilege):
            reader.execute("SELECT hidden FROM app.documents")
        assert cast.value("SELECT pgvmig.refresh_views('app.documents', show => '{hidden}')") == ["hidden"]
        assert reader.execute("SELECT count(hidden) FROM app.documents_v1").fetchone() == (0,)
        with pytest.raises(pg.InsufficientPrivilege):
            reader.execute("UPDATE app.documents SET later = 8")


@pytest.mark.layouts
def test_rights_outlive_a_change_of_the_table(cast):
    cast.create_roles()
    cast.add("v1", "body")
    with cast.root.transaction():
        cast.root.execute(
            "SELECT pgvmig.begin_table_change('app.documents'); "
            "ALTER TABLE app.documents ALTER body TYPE varchar(200); "
            "ALTER TABLE app.documents ADD number bigint GENERATED ALWAYS AS IDENTITY UNIQUE NOT NULL; "
            "SELECT pgvmig.end_table_change('app.documents', '{number}')"
        )
    with cast.connected("reader") as reader, cast.connected("worker") as worker:
        assert reader.execute("SELECT count(body) FROM app.documents_v1").fetchone() == (0,)
        assert (
            len(worker.execute("SELECT pgvmig.app_documents_v1_text(body), number FROM app.documents").fetchall()) == 20
        )
        worker.execute("DELETE FROM pgvmig.app_documents_v1_stale")
        with pytest.raises(pg.InsufficientPrivilege):
            worker.execute("SELECT secret FROM app.documents")


def test_a_right_to_read_that_a_soak_took_away_stays_away(cast):
    ready(cast)
    cast.create_roles()
    cast.execute("SELECT pgvmig.revoke_reading('app.documents', 'v1')")
    cast.execute("ALTER TABLE app.documents ADD COLUMN later int")
    cast.execute("SELECT pgvmig.refresh_views('app.documents')")
    with cast.connected("reader") as reader:
        with pytest.raises(pg.InsufficientPrivilege, match="permission denied for view documents_v1"):
            reader.execute("SELECT FROM app.documents_v1")
        cast.execute("SELECT pgvmig.restore_reading('app.documents', 'v1')")
        reader.execute("SELECT FROM app.documents_v1")


def test_created_again_nothing_changes_and_dropped_nothing_is_left(cast):
    cast.add("v1", "body", cast.superuser)
    assert sorted(cast.create_roles()["created"]) == sorted(names_of(cast))
    before = {duty: privileges(cast, duty) for duty in DUTIES}
    run = ConnectionRunner(cast.root)
    again = roles.create(run, cast.name)
    assert (again["created"], len(again["existed"]), again["warnings"]) == ([], 4, [])
    assert {duty: privileges(cast, duty) for duty in DUTIES} == before
    with pytest.raises(IllegalTransitionError, match=f"this database's roles begin with {cast.name}, not with other"):
        roles.create(run, "other")
    kept = roles.drop(run)
    events = cast.root.execute("SELECT who, source, verb FROM pgvmig.event WHERE verb LIKE '% roles'").fetchall()
    assert events == [(cast.superuser, "sql", f"{verb} roles") for verb in ("create", "create", "drop")]
    assert kept["dropped"] == []
    assert kept["kept"][f"{cast.name}_worker"] == f"it has members: {cast.login('worker')}"
    assert [privileges(cast, duty) for duty in DUTIES] == [[]] * 4
    for duty in DUTIES:
        cast.execute("DROP ROLE {login}", login=sql.Identifier(cast.login(duty)))
    roles.create(run, cast.name)
    assert len(roles.drop(run)["dropped"]) == 4
    assert names_of(cast) == []


def test_a_switch_between_types_with_lent_rights(cast):
    """The current view is dropped and made anew by a role that does not own it; owner and readers keep it."""
    ready(cast)
    cast.create_roles()
    with cast.connected("operator") as operator, cast.connected("reader") as reader:
        operator.execute("SELECT pgvmig.operator_cut_over('app.documents', 'v1')")
        half = cast.add("v2", "body", vector_type="halfvec")
        embed(cast.root, half)
        indexing.build(ConnectionRunner(cast.root), cast.where("v2"))
        prove(cast.root, half)
        operator.execute("SELECT pgvmig.operator_cut_over('app.documents', 'v2')")
        assert reader.execute("SELECT DISTINCT pg_typeof(embedding)::text FROM app.documents_current").fetchall() == [
            ("halfvec",)
        ]
        operator.execute("SELECT pgvmig.operator_roll_back('app.documents')")
        assert reader.execute("SELECT count(*) FROM app.documents_current").fetchone() == (20,)
    owner = "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'app.documents_current'::regclass"
    assert cast.value(owner) == cast.owner


def test_two_databases_share_the_roles(cast, server):
    roles.create(ConnectionRunner(cast.root), cast.name, owner=cast.migrator)
    with server.database(installed=True) as other, other.connect() as second:
        second.execute(sql.SQL("ALTER SCHEMA pgvmig OWNER TO {}").format(sql.Identifier(cast.migrator)))
        assert len(roles.create(ConnectionRunner(second), cast.name)["existed"]) == 4
        kept = roles.drop(ConnectionRunner(cast.root))["kept"]
        assert f"privileges for database {other.name}" in kept[f"{cast.name}_worker"] or other.name in str(kept)
        assert roles.drop(ConnectionRunner(second))["kept"] == {}
        second.execute(sql.SQL("REASSIGN OWNED BY {} TO CURRENT_USER").format(sql.Identifier(cast.migrator)))


def test_what_is_no_group_of_rights_is_not_taken(cast):
    run = ConnectionRunner(cast.root)
    cast.execute("CREATE ROLE {login} LOGIN", login=sql.Identifier(f"{cast.name}_worker"))
    with pytest.raises(ConflictError, match=f"role {cast.name}_worker is there already, and is more than a group"):
        roles.create(run, cast.name, owner=cast.migrator)
    with pytest.raises(NotFoundError, match='there is no role "no such"'):
        roles.create(run, cast.name + "x", owner="no such")
    with pytest.raises(UsageError, match="1 to 54 bytes"):
        roles.create(run, "p" * 55)


def test_the_owner_must_be_able_to_switch_every_table(cast):
    cast.add("v1", "body", cast.superuser)
    cast.execute("REVOKE {owner} FROM {migrator}")
    with pytest.raises(IllegalTransitionError) as refused:
        cast.create_roles()
    assert str(refused.value) == (
        f"{cast.migrator} owns the control schema, and is no member of the owners of app.documents of {cast.owner}. "
        "No operator could switch these tables: their views are their owners'. "
        f"Next: GRANT {cast.owner} TO {cast.migrator}"
    )


@pytest.mark.parametrize("offline", [False, True])
def test_a_revision_creates_and_drops_them(cast, tmp_path, offline):
    project = OwnProject(cast.database.url, tmp_path)
    prefix = cast.name + ' "%s'
    project.revision(f"op.create_pgvmig_roles(prefix={prefix!r}, owner={cast.migrator!r})", "op.drop_pgvmig_roles()")
    if offline:
        cast.root.execute(project.sql("r1"))
    else:
        project.upgrade("r1")
    there = "SELECT count(*) FROM pg_roles WHERE starts_with(rolname, %s)"
    assert cast.root.execute(there, [prefix]).fetchone() == (4,)
    assert len(roles.rights(ConnectionRunner(cast.root))) > 20
    if offline:
        cast.root.execute(project.sql("r1:base"))
    else:
        project.downgrade("base")
    assert cast.root.execute(there, [prefix]).fetchone() == (0,)


def test_the_command_line(cast, monkeypatch, capsys):
    def run(*arguments):
        return cast.cli(monkeypatch, capsys, cast.superuser, "roles", *arguments)

    code, refused = run("create", "--prefix", cast.name)
    assert (code, refused["error"]["type"]) == (1, "TooMightyError")
    code, done = run("create", "--prefix", cast.name, "--owner", cast.migrator)
    assert (code, len(done["created"])) == (0, 4)
    cast.add("v1", "body")
    code, shown = run("show")
    view = [r for r in shown["rights"] if r["object"] == "app.documents_v1"]
    assert view == [
        {
            "duty": "reader",
            "role": f"{cast.name}_reader",
            "privilege": "SELECT",
            "object": "app.documents_v1",
            "columns": None,
        }
    ]
    code, gone = run("drop")
    assert (code, len(gone["dropped"])) == (0, 4), gone
