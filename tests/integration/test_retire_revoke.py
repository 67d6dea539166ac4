"""Taking the right to read a version away for a soak, and giving it back exactly."""

from contextlib import suppress

import psycopg
import pytest
import vectors
from leaving import V1, V2, Left
from lifecycle import find

from pgvmig import retiring
from pgvmig.checks import gates
from pgvmig.errors import IllegalTransitionError

ACL = """
    SELECT c.relname, c.relacl::text, array_agg(a.attname || a.attacl::text) FILTER (WHERE a.attacl IS NOT NULL)
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relname ~ '^documents' AND c.relkind IN ('r', 'v') GROUP BY c.oid ORDER BY 1
"""
EVENTS = "SELECT verb, reason FROM pgvmig.event WHERE verb IN ('revoke reading', 'give back reading') ORDER BY event_id"


@pytest.fixture
def roles(database):
    """Four roles that log in nowhere; dropped with what they were granted."""
    names = [f"{database.name}_{name}" for name in ("web", "batch", "passes_on", "guest")]
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        for name in names:
            connection.execute(f"CREATE ROLE {name}")
        yield names
        for name in names:
            with suppress(psycopg.errors.UndefinedObject):
                connection.execute(f"DROP OWNED BY {name} CASCADE")
                connection.execute(f"DROP ROLE {name}")


@pytest.fixture
def left(database):
    return Left(database.connect())


def may_read(left, role, relation):
    return left.execute("SELECT has_any_column_privilege(%s, %s, 'SELECT')", role, relation)[0][0]


@pytest.mark.layouts
def test_it_is_given_back_exactly(left, roles, layout):
    web, batch, passes_on, guest = roles
    left.execute(f"GRANT SELECT ON documents, documents_v1, documents_current TO {web}")
    left.execute(f"GRANT SELECT (id, embedding) ON documents_v1 TO {batch} WITH GRANT OPTION")
    left.execute(f"GRANT SELECT, INSERT ON documents_v1 TO {passes_on} WITH GRANT OPTION")
    left.execute("GRANT SELECT ON documents_v1 TO PUBLIC")
    for who, what in ((passes_on, "SELECT"), (batch, "SELECT (id)")):
        left.execute(f"SET ROLE {who}")
        left.execute(f"GRANT {what} ON documents_v1 TO {guest}")
        left.execute("RESET ROLE")
    if layout == "table":
        left.execute(f"GRANT SELECT ON documents_v1_vectors, documents_v2_vectors TO {web}")
        left.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON documents_v1_vectors TO {batch}")  # a worker's
    before = left.execute(ACL)
    outcome = retiring.revoke(left.run, V1, "who misses it?")
    assert outcome["revoked"] == sorted(["PUBLIC", *roles])
    assert "postgres" in outcome["readers_left"]
    assert not any(may_read(left, role, "documents_v1") for role in roles)
    assert may_read(left, web, "documents_current")
    if layout == "table":
        assert (may_read(left, web, "documents_v1_vectors"), may_read(left, batch, "documents_v1_vectors")) == (
            False,
            True,
        )
        assert may_read(left, web, "documents_v2_vectors")
    left.execute("SELECT pgvmig.refresh_views('documents')")
    if layout == "table":
        assert not may_read(left, web, "documents_v1_vectors")
    assert retiring.revoke(left.run, V1) == {"changed": False, "version": "v1"}
    (parity,) = [g for g in gates.check(left.run, left.v1.version_id, way_back=True) if g.gate == "parity"]
    assert parity.passed
    taken = left.execute("SELECT jsonb_array_length(grants) FROM pgvmig.revoked_view")[0][0]
    if layout == "column":
        assert retiring.restore(left.run, V1, "web did") == {
            "changed": True, "version": "v1", "restored": taken, "gone": [],
        }  # fmt: skip
        assert [(name, *map(as_set, acl)) for name, *acl in left.execute(ACL)] == [
            (name, *map(as_set, acl)) for name, *acl in before
        ]
        assert left.execute(EVENTS) == [("revoke reading", "who misses it?"), ("give back reading", "web did")]
    else:  # a switch gives it back before its gates ask who may read what
        vectors.roll_back(left.connection, find(left.connection, V2))
        assert may_read(left, guest, "documents_v1")
        assert may_read(left, web, "documents_v1_vectors")
    assert retiring.restore(left.run, V1) == {"changed": False, "version": "v1"}


def as_set(acl):
    """The entries of an ACL; their order is that in which they were granted."""
    return None if acl is None else sorted(acl.strip("{}").split(",") if isinstance(acl, str) else map(as_sorted, acl))


def as_sorted(entry):
    column, _, acl = entry.partition("{")
    return column, sorted(acl.strip("}").split(","))


def test_a_soak_without_the_right_to_read_stands_in_for_what_nobody_can_tell(left, roles):
    web = roles[0]
    left.execute("DROP INDEX documents_embedding_v1_hnsw")
    left.pass_time()
    left.execute(f"GRANT SELECT ON documents_v1 TO {web}")
    retiring.revoke(left.run, V1)
    found = left.gate("unused")
    assert (found.passed, found.next.startswith("the right to read it is taken away since ")) == (False, True)
    left.pass_time()
    assert left.gate("unused").found == "the right to read it was taken away 25 h ago and nobody had it given back"
    assert retiring.retire(left.run, V1)["changed"]
    assert left.execute("SELECT count(*) FROM pgvmig.revoked_view") == [(0,)]


def test_who_is_gone_is_named_and_holds_up_no_rollback(left, roles):
    web, batch, *_ = roles
    left.execute(f"GRANT SELECT ON documents_v1 TO {web}, {batch}")
    retiring.revoke(left.run, V1)
    left.execute(f"DROP ROLE {batch}")
    assert retiring.restore(left.run, V1)["gone"] == [batch]
    assert may_read(left, web, "documents_v1")


def test_what_is_refused(left, database, roles):
    with pytest.raises(IllegalTransitionError) as error:
        retiring.revoke(left.run, V1)
    assert str(error.value) == (
        "nobody was granted SELECT on public.documents_v1: there is no right to take away. Its owner and superusers "
        "can read it anyway, so a soak of this kind would prove nothing. "
        "Next: pgvmig retire documents v1 --check says what else could"
    )
    with pytest.raises(IllegalTransitionError, match="documents v2 is active: searches go there"):
        retiring.revoke(left.run, V2)
    web, _, passes_on, guest = roles
    left.execute(f"GRANT SELECT ON documents_v1 TO {passes_on} WITH GRANT OPTION")
    left.execute(f"SET ROLE {passes_on}")
    left.execute(f"GRANT SELECT ON documents_v1 TO {guest}")
    left.execute("RESET ROLE")
    left.execute(f"ALTER VIEW documents_v1 OWNER TO {web}; GRANT USAGE ON SCHEMA pgvmig, public TO {web}")
    left.execute(
        f"GRANT ALL ON ALL TABLES IN SCHEMA pgvmig TO {web}; GRANT ALL ON ALL SEQUENCES IN SCHEMA pgvmig TO {web}"
    )
    left.execute(f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA pgvmig TO {web}; SET SESSION AUTHORIZATION {web}")
    before = left.execute(ACL)
    with pytest.raises(IllegalTransitionError) as error:
        retiring.revoke(left.run, V1)
    assert error.value.found == (
        f"what public.documents_v1 was granted could not be given back by {web}: "
        f'permission denied to set role "{passes_on}"'
    )
    assert left.execute(ACL) == before
    left.execute("RESET SESSION AUTHORIZATION")
