"""Vectors in a table of their own: what it is, who sees it, and the races that its writer meets without a row lock."""

import threading
from datetime import timedelta
from uuid import uuid4

import lifecycle
import pytest
from backfilling import Background, wait_until
from lifecycle import add_version, embed, find, prove, retire, stale
from migrating import OwnProject
from psycopg import sql
from vectors import cut_over, roll_back

from pgvmig import adding, indexing
from pgvmig.address import address
from pgvmig.backfill import faults
from pgvmig.backfill.batches import Answer
from pgvmig.backfill.lane import Lane
from pgvmig.backfill.runs import RunLog
from pgvmig.catalog.connection import connect
from pgvmig.errors import ConflictError, DestructionRefusedError, GateError
from pgvmig.pacing.limits import Limits
from pgvmig.runner import ConnectionRunner

pytestmark = pytest.mark.layouts("table")

V2 = address("documents", "v2")
LEFT = "SELECT count(*) FROM documents_v2_vectors"


@pytest.fixture
def role(site):
    """A role of this test's own, that owns nothing."""
    name = f"{site.database.name}_reader"
    site.execute(f"CREATE ROLE {name}")
    yield name
    site.execute("RESET ROLE")
    site.execute(f"DROP OWNED BY {name}")
    site.execute(f"DROP ROLE {name}")


def before_commit(monkeypatch, action):
    """Run the action once, when a batch is written and not yet committed."""
    waiting = [action]

    def reach(point):
        if point == "before-commit" and waiting:
            waiting.pop()()

    monkeypatch.setattr(faults, "reach", reach)


class TestTheTable:
    def test_has_the_rows_own_key_and_belongs_to_the_rows_owner(self, site, role):
        site.execute(
            'CREATE TABLE documents (tenant uuid, path varchar(40) COLLATE "C", body text, PRIMARY KEY (tenant, path))'
        )
        site.execute(f"GRANT SELECT ON documents TO {role}")
        site.execute(f"ALTER DEFAULT PRIVILEGES GRANT INSERT ON TABLES TO {role}")
        site.version()
        columns = site.execute(
            "SELECT attname, format_type(atttypid, atttypmod), attcollation::regcollation::text, attnotnull "
            "FROM pg_attribute WHERE attrelid = 'documents_v2_vectors'::regclass AND attnum > 0"
        ).fetchall()
        assert {row[0]: row[1:] for row in columns if row[0].startswith("key_")} == {
            "key_tenant": ("uuid", "-", True),
            "key_path": ("character varying(40)", '"C"', True),
        }
        assert all(row[3] for row in columns)
        rights = (
            "SELECT has_table_privilege(%s, 'documents_v2_vectors', 'SELECT'), has_table_privilege(%s, "
            "'documents_v2_vectors', 'INSERT')"
        )
        assert site.execute(rights, role, role).fetchone() == (True, False)
        assert site.value(
            "SELECT relowner = (SELECT relowner FROM pg_class WHERE oid = 'documents'::regclass) "
            "FROM pg_class WHERE oid = 'documents_v2_vectors'::regclass"
        )

    def test_leaves_the_rows_alone(self, site):
        """No update, so none of the user's triggers fires and nothing is sent to a publication's subscribers."""
        site.documents(50)
        site.execute(
            "CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'touched'; END$$"
        )
        site.execute("CREATE TRIGGER audit BEFORE UPDATE ON documents FOR EACH ROW EXECUTE FUNCTION audit()")
        versions = "SELECT array_agg((ctid, xmin)::text ORDER BY id) FROM documents"
        before = site.value(versions)
        v2 = site.version()
        site.run()
        assert site.problems(v2) == []
        assert site.value(versions) == before

    def test_is_dropped_with_its_version_and_added_again_as_the_other_layout(self, site):
        site.documents(5)
        embed(site.connection, site.version())
        run = ConnectionRunner(site.connection, "cli")
        retire(run, V2, "a drill")
        assert site.value("SELECT to_regclass('documents_v2_vectors')") is None
        again = add_version(site.connection, "documents", "v2", layout="column")
        assert (again.layout, again.vector_table_name, embed(site.connection, again)) == ("column", "documents", 5)
        adding.drop(run, V2, destroy=True)
        with site.connection.transaction():
            apart = add_version(site.connection, "documents", "v2")
        assert apart.vector_table_name == "documents_v2_vectors"

    def test_a_key_without_a_binary_form_is_refused(self, site):
        site.execute("CREATE TYPE odd")
        site.execute("CREATE FUNCTION odd_in(cstring) RETURNS odd LANGUAGE internal IMMUTABLE STRICT AS 'textin'")
        site.execute("CREATE FUNCTION odd_out(odd) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout'")
        site.execute("CREATE TYPE odd (INPUT = odd_in, OUTPUT = odd_out, LIKE = text)")
        site.execute("CREATE FUNCTION odd_cmp(odd, odd) RETURNS int LANGUAGE internal IMMUTABLE AS 'bttextcmp'")
        for name, function in {"<": "text_lt", "<=": "text_le", "=": "texteq", ">=": "text_ge", ">": "text_gt"}.items():
            site.execute(
                f"CREATE FUNCTION odd_{function}(odd, odd) RETURNS boolean LANGUAGE internal IMMUTABLE AS '{function}'"
            )
            site.execute(f"CREATE OPERATOR {name} (LEFTARG = odd, RIGHTARG = odd, FUNCTION = odd_{function})")
        site.execute(
            "CREATE OPERATOR CLASS odd_ops DEFAULT FOR TYPE odd USING btree AS OPERATOR 1 <, OPERATOR 2 <=, "
            "OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 odd_cmp(odd, odd)"
        )
        site.execute("CREATE TABLE documents (id odd PRIMARY KEY, body text)")
        with pytest.raises(ConflictError) as error:
            site.version()
        assert str(error.value) == (
            "the key of documents has no binary form: id (odd). Vectors of the table layout are written by binary "
            'COPY. Next: use layout="column", or another unique key with key=[...]'
        )

    def test_a_switch_between_layouts_keeps_the_current_view(self, site):
        site.documents(3)
        v1 = add_version(site.connection, "documents", "v1", {"dimensions": 4}, layout="column")
        v2 = site.version()
        embed(site.connection, v1), embed(site.connection, v2)
        cut_over(site.connection, v1)
        identity = "SELECT oid, relacl::text, reloptions FROM pg_class WHERE oid = 'documents_current'::regclass"
        before = site.execute(identity).fetchall()
        for step, shown in (
            (lambda: cut_over(site.connection, v2), "v2"),
            (lambda: roll_back(site.connection, v2), "v1"),
        ):
            step()
            assert site.execute("SELECT DISTINCT embedding_space FROM documents_current").fetchall() == [(shown,)]
            assert site.execute(identity).fetchall() == before
        both = "SELECT pg_get_viewdef(%s::regclass) = pg_get_viewdef(%s::regclass)"
        assert site.value(both, "documents_current", "documents_v1")
        with site.connection.transaction(force_rollback=True):  # both writers of the view's text agree
            site.execute("ALTER TABLE documents ADD COLUMN added text")
            definition = site.value("SELECT pg_get_viewdef('documents_v2'::regclass)")
            adding.refresh_views(ConnectionRunner(site.connection), "documents")
            assert site.value("SELECT pg_get_viewdef('documents_v2'::regclass)") == definition.replace(
                "    e.embedded_at AS embedding_embedded_at\n",
                "    e.embedded_at AS embedding_embedded_at,\n    d.added\n",
            )


class TestPrivacy:
    @pytest.fixture
    def hidden(self, site, role):
        """Of 2,000 rows the role may see one in ten."""
        site.documents(2000)
        site.execute(f"GRANT SELECT ON documents TO {role}")
        site.execute("CREATE POLICY few ON documents USING (id % 10 = 0)")
        return role

    def test_rows_that_are_hidden_hide_their_vectors(self, site, hidden):
        site.execute("ALTER TABLE documents ENABLE ROW LEVEL SECURITY")
        embed(site.connection, site.version())
        indexing.build(ConnectionRunner(site.connection), V2)
        site.execute("ANALYZE")
        site.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(hidden)).as_string())
        assert site.value(LEFT) == site.value("SELECT count(*) FROM documents_v2") == 200
        search = "SELECT id FROM documents_v2 ORDER BY embedding <=> '[1,1,1,1,1,1,1,1]' LIMIT 5"
        site.execute("SET enable_sort = off")  # on so small a table it would be cheaper
        plan = "\n".join(row[0] for row in site.execute(f"EXPLAIN {search}"))
        assert "documents_embedding_v2_hnsw" in plan
        assert all(row[0] % 10 == 0 for row in site.execute(search))

    def test_enabled_later_it_is_a_gate(self, site, hidden):
        embed(site.connection, site.version())
        run = ConnectionRunner(site.connection, "cli")
        indexing.build(run, V2)
        site.execute("ALTER TABLE documents ENABLE ROW LEVEL SECURITY")
        with pytest.raises(GateError) as error:
            lifecycle.cut_over(run, V2)
        assert str(error.value) == (
            "documents v2 is not ready: row-level security hides rows of public.documents, and not their vectors in "
            "public.documents_v2_vectors. Next: SELECT pgvmig.refresh_views('public.documents')"
        )
        site.execute("SELECT pgvmig.refresh_views('public.documents')")
        assert lifecycle.cut_over(run, V2)["changed"]
        site.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(hidden)).as_string())
        assert site.value(LEFT) == 200

    def test_a_right_that_was_revoked_later_is_a_gate(self, site, role):
        site.documents(5)
        site.execute(f"GRANT SELECT ON documents TO {role}")
        embed(site.connection, site.version())
        run = ConnectionRunner(site.connection, "cli")
        indexing.build(run, V2)
        site.execute(f"REVOKE SELECT ON documents FROM {role}")
        with pytest.raises(GateError) as error:
            lifecycle.cut_over(run, V2)
        assert str(error.value) == (
            f"documents v2 is not ready: {role} may read public.documents_v2_vectors, and not public.documents. "
            "Next: SELECT pgvmig.refresh_views('public.documents')"
        )
        site.execute("SELECT pgvmig.refresh_views('public.documents')")
        assert lifecycle.cut_over(run, V2)["changed"]
        assert not site.value(f"SELECT has_table_privilege('{role}', 'documents_v2_vectors', 'SELECT')")


class TestRaces:
    @pytest.fixture
    def v2(self, site):
        site.documents(5)
        return site.version()

    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE documents SET body = 'changed' WHERE id = 3",
            "DELETE FROM documents WHERE id = 3",
            "UPDATE documents SET id = DEFAULT WHERE id = 3",
            "UPDATE documents SET body = ' ' WHERE id = 3",
        ],
    )
    @pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
    def test_between_the_guard_and_the_commit(self, site, v2, monkeypatch, change, isolation):
        with site.database.connect() as application:
            application.execute(f"SET default_transaction_isolation = '{isolation}'")
            before_commit(monkeypatch, lambda: application.execute(change))
            assert site.run().why == "done"
        assert site.run("documents", "v2").why == "done"
        assert site.problems(v2) == []

    def test_a_key_that_comes_back_with_another_text(self, site, v2, monkeypatch):
        with site.database.connect() as application:

            def swap():
                application.execute("DELETE FROM documents WHERE id = 3")
                application.execute("INSERT INTO documents (id, body) OVERRIDING SYSTEM VALUE VALUES (3, 'another')")

            before_commit(monkeypatch, swap)
            assert site.run().why == "done"
        assert site.problems(v2) == []

    def test_truncate_waits_for_the_batch(self, site, v2, monkeypatch):
        with site.database.connect() as application:
            truncation = Background(lambda: application.execute("TRUNCATE documents"))

            def begin():
                truncation.__enter__()
                wait_until(lambda: site.value("SELECT count(*) FROM pg_locks WHERE NOT granted") > 0)

            before_commit(monkeypatch, begin)
            site.run()
            truncation.join()
        assert site.run("documents", "v2").why == "done"
        assert site.value(LEFT) == 0
        assert site.problems(v2) == []

    def test_a_truncation_cannot_meet_who_looks_for_deleted_rows(self, site, v2):
        """It locks the table, then that of the vectors: whoever did it the other way round would deadlock with it."""
        site.run()
        write_orphan(site)
        site.execute("INSERT INTO pgvmig.documents_v2_stale (key_id) VALUES (100)")
        lane = open_lane(site, v2)
        batch = lane.next_batch()
        with site.database.connect() as application, application.transaction():
            application.execute("LOCK TABLE documents IN ACCESS EXCLUSIVE MODE")
            forgetting = Background(lambda: lane.write(batch))
            forgetting.__enter__()
            wait_until(lambda: site.value("SELECT count(*) FROM pg_locks WHERE NOT granted") > 0)
            application.execute("LOCK TABLE documents_v2_vectors IN ACCESS EXCLUSIVE MODE NOWAIT")
        forgetting.join()
        assert (site.value(LEFT), site.stale()) == (5, 0)

    def test_a_locked_row_is_written_all_the_same(self, site, v2):
        with site.database.connect() as application, application.transaction():
            application.execute("SELECT FROM documents FOR UPDATE")
            assert site.run().why == "done"
        assert site.problems(v2) == []

    def test_an_application_never_waits_for_the_writer(self, site, v2, monkeypatch):
        site.run()
        site.execute("UPDATE documents SET body = 'changed' || id")
        with site.database.connect() as application:
            application.execute("SET lock_timeout = '1s'")
            before_commit(monkeypatch, lambda: application.execute("DELETE FROM documents WHERE id IN (2, 3)"))
            assert site.run().why == "done"
        assert site.run("documents", "v2").why == "done"
        assert site.problems(v2) == []

    def test_a_worker_that_is_late_does_not_overwrite_a_newer_text(self, site, v2, monkeypatch):
        """Its lease is over, another worker has read the changed text and is at its write: neither vector is lost."""
        late, go = threading.Event(), threading.Event()
        # the one that is late blocks its own connection for leases, and that would pause the other for a minute
        unpaced = {"lease": 1.0, "batch_size": 2, "limits": Limits(max_blocking=None)}
        names = threading.local()
        real = faults.reach

        def reach(point):
            if point == "before-commit" and getattr(names, "late", False) and not late.is_set():
                late.set()
                go.wait(20)
            real(point)

        monkeypatch.setattr(faults, "reach", reach)

        def slow():
            names.late = True
            return site.run(**unpaced)

        with Background(slow) as first:
            assert late.wait(20)
            site.execute("UPDATE documents SET body = 'changed' || id")
            with Background(lambda: site.run(**unpaced)) as second:
                threading.Timer(2.5, go.set).start()
                second.join()
            first.join()
        assert site.run("documents", "v2").why == "done"
        assert site.problems(v2) == []

    @pytest.mark.parametrize("other", ["another", " "])
    def test_a_text_that_is_back_while_the_vector_of_another_is_written(self, site, v2, monkeypatch, other):
        """What there is already for the text is about to be replaced, by a worker that has not seen it come back."""
        text = site.value("SELECT body FROM documents WHERE id = 3")
        first, second = open_lane(site, v2), open_lane(site, v2)
        change = "UPDATE documents SET body = %s WHERE id = 3"
        walk = answered(site, first.next_batch())
        site.execute(change, other)
        second.write(answered(site, second.next_batch()))
        site.execute(change, text)
        over = threading.Event()

        def settle():
            second.write(second.next_batch())
            over.set()

        settling = Background(settle)

        def change_back():
            site.execute(change, other)
            settling.__enter__()
            waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'"
            wait_until(lambda: over.is_set() or site.value(waits) > 0)

        before_commit(monkeypatch, change_back)
        first.write(walk)
        settling.join()
        assert site.run().why == "done"
        assert site.problems(v2) == []

    def test_another_isolation_by_default_does_not_matter(self, site, v2, monkeypatch):
        """A snapshot from before the lock was waited for would not show the vector that goes with the text."""
        site.execute(f"ALTER DATABASE {site.database.name} SET default_transaction_isolation = 'repeatable read'")
        first, second = open_lane(site, v2), open_lane(site, v2)
        walk = answered(site, first.next_batch())
        clearing = Background(lambda: second.write(second.next_batch()))

        def clear():
            site.execute("UPDATE documents SET body = ' ' WHERE id = 3")
            clearing.__enter__()
            wait_until(lambda: site.value("SELECT count(*) FROM pg_locks WHERE NOT granted") > 0)

        before_commit(monkeypatch, clear)
        first.write(walk)
        clearing.join()
        assert site.run().why == "done"
        assert site.problems(v2) == []

    def test_orphans_of_a_deleted_row_go_with_its_entry(self, site, v2):
        site.run()
        write_orphan(site)
        assert site.run().why == "done"
        assert site.value(LEFT) == 5
        assert stale(site.connection, find(site.connection, V2)) == []


def open_lane(site, version):
    """A worker's part on a version, with a connection of its own."""
    connection, log = connect(site.database.dsn), RunLog(uuid4())
    log.begin(connection, version, Limits())
    lane = Lane(connection, version, log, lease=timedelta(hours=1), batch_size=lambda: 64, stop=lambda: False)
    lane.begin(asked=False)
    return lane


def answered(site, batch):
    """The batch with what its model says of it."""
    model = site.server.models["new"]
    batch.answers += [Answer(row, "vector", vector=model.embed([row.text])[0]) for row in batch.to_embed]
    batch.to_embed = []
    return batch


def write_orphan(site):
    """A vector that was written after its row was deleted, and the entry that the delete left."""
    site.execute(
        "INSERT INTO documents_v2_vectors (key_id, embedding, version_id, source_hash) "
        "SELECT 100, embedding, version_id, source_hash FROM documents_v2_vectors LIMIT 1"
    )
    site.execute("INSERT INTO pgvmig.documents_v2_stale (key_id) VALUES (100)")


ADD = (
    'op.add_embedding("documents", "v2", CONTRACT, layout="table", '
    'columns=["id", "body", "note"], key=["id"], schema="public")'
)


class TestRevisions:
    @pytest.fixture
    def project(self, site, tmp_path):
        project = OwnProject(site.database.url, tmp_path / "migrations")
        project.revision(ADD, 'op.drop_embedding("documents", "v2", schema="public")')
        project.revision(
            'op.index_embedding("documents", "v2", schema="public")',
            'op.drop_embedding_index("documents", "v2", schema="public")',
        )
        project.revision(
            'op.cut_over_embedding("documents", "v2", schema="public")',
            'op.roll_back_embedding("documents", "v2", schema="public")',
        )
        return project

    def test_up_down_and_up_again(self, site, project):
        site.documents(20)
        for _ in range(2):
            project.upgrade("r1")
            embed(site.connection, find(site.connection, V2))
            project.upgrade("r2")
            prove(site.connection, find(site.connection, V2))
            project.upgrade("r3")
            assert site.value("SELECT count(*) FROM documents_current WHERE embedding_space = 'v2'") == 20
            assert site.value(
                "SELECT indisvalid FROM pg_index WHERE indexrelid = 'documents_embedding_v2_hnsw'::regclass"
            )
            project.downgrade("r1", "pgvmig_drop_index=documents.v2")
            with pytest.raises(DestructionRefusedError, match="would destroy 20 vectors"):
                project.downgrade("base")
            project.downgrade("base", "pgvmig_drop=documents.v2")
            left = "SELECT relname FROM pg_class WHERE relname LIKE 'documents\\_v2%' OR relname LIKE '%hnsw'"
            assert site.execute(left).fetchall() == []

    def test_the_script_is_read_by_people_and_makes_the_same_objects(self, site, project):
        site.documents(0)
        text = project.sql("r1")
        assert (
            'CREATE TABLE "public"."documents_v2_vectors" AS\n'
            'SELECT d."id" AS "key_id" FROM "public"."documents" AS d WITH NO DATA;' in text
        )
        assert 'JOIN "public"."documents_v2_vectors" AS e ON e."key_id" = d."id";' in text
        objects = (
            "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull FROM pg_class c "
            "JOIN pg_attribute a ON a.attrelid = c.oid WHERE c.relname LIKE 'documents\\_v2%' AND a.attnum > 0 "
            "ORDER BY 1, a.attnum"
        )
        with site.database.connect() as other:
            other.execute(text)
        offline = site.execute(objects).fetchall()
        site.execute("SELECT pgvmig.drop_version('documents', 'v2')")
        site.execute("DROP TABLE my_revisions")
        project.upgrade("r1")
        assert site.execute(objects).fetchall() == offline
        assert len(offline) > 10
