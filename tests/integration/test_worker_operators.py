"""Whoever may create objects in a schema of the search_path can offer an operator that fits a key's type better."""

import pytest
from backfilling import Site

pytestmark = pytest.mark.layouts

_HOSTILE = """
CREATE FUNCTION public.hostile(varchar, varchar) RETURNS boolean LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'runs as %', current_user; END $$;
CREATE OPERATOR public.= (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = public.hostile)
"""


@pytest.fixture
def hostile(site: Site) -> Site:
    """A table with a varchar key, and an operator in `public` that whoever compares varchar with a bare = would run."""
    site.execute("CREATE TABLE documents (path varchar(40) PRIMARY KEY, body text)")
    site.execute("INSERT INTO documents SELECT 'path ' || i, 'text ' || i FROM generate_series(1, 20) AS i")
    site.execute(_HOSTILE)
    return site


def test_the_operator_is_the_one_that_a_bare_equals_finds(hostile):
    with pytest.raises(Exception, match="runs as postgres"):
        hostile.execute("SELECT FROM documents WHERE path = 'path 1'::varchar")


def test_a_workers_queries_do_not_run_it(hostile):
    version = hostile.version()
    assert hostile.run().why == "done"
    hostile.execute("UPDATE documents SET body = 'changed' WHERE path::text IN ('path 3', 'path 4')")
    hostile.execute("UPDATE documents SET body = '' WHERE path::text = 'path 5'")
    hostile.execute("DELETE FROM documents WHERE path::text = 'path 6'")
    assert hostile.run().why == "done"
    assert hostile.value("SELECT count(*) FROM pgvmig.documents_v2_stale") == 0
    assert hostile.state(version) == "ready"
