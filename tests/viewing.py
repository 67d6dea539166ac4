"""What tests of views share: the two versions that they show, and questions to the catalog."""

from __future__ import annotations

from psycopg import sql

V1 = {"model": "one"}
V2 = {"model": "two", "dimensions": 4}
ROW_1 = [1.0, 0, 0, 0, 0, 0, 0, 0]
VECTOR_COLUMNS = [
    "embedding",
    "embedding_space",
    "embedding_model",
    "embedding_model_version",
    "embedding_source_hash",
    "embedding_embedded_at",
]
SHOWN = ["id", "tenant", "title", "body", *VECTOR_COLUMNS]


def columns(connection, view):
    rows = connection.execute(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum",
        (view,),
    )
    return dict(rows.fetchall())


def identity(connection, view):
    return connection.execute(
        "SELECT oid, relowner, relacl::text, reloptions, obj_description(oid, 'pg_class'), col_description(oid, 1), "
        "(SELECT array_agg(tgname ORDER BY tgname) FROM pg_trigger WHERE tgrelid = c.oid), "
        "(SELECT array_agg(attacl::text) FROM pg_attribute WHERE attrelid = c.oid AND attacl IS NOT NULL) "
        "FROM pg_class c WHERE oid = %s::regclass",
        (view,),
    ).fetchone()


def definition(connection, view):
    return connection.execute("SELECT pg_get_viewdef(%s::regclass)", (view,)).fetchone()[0]


def spaces(connection, view="documents_current"):
    query = sql.SQL("SELECT DISTINCT embedding_space FROM {}").format(sql.Identifier(view))
    return [row[0] for row in connection.execute(query)]


def plan(connection, query):
    return "\n".join(row[0] for row in connection.execute(f"EXPLAIN (COSTS OFF) {query}"))


def grant(connection, role, *what):
    for each in what:
        connection.execute(sql.SQL("GRANT {} TO {}").format(sql.SQL(each), sql.Identifier(role)))


def become(connection, role):
    connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))


def rendered_by_sql(connection, version):
    """Return how PostgreSQL prints the view that pgvmig.view_query() writes."""
    query = connection.execute(
        "SELECT pgvmig.view_query(v) FROM pgvmig.version v WHERE version_id = %s", (version.version_id,)
    ).fetchone()[0]
    with connection.transaction(force_rollback=True):
        connection.execute("CREATE VIEW rendered_by_sql AS " + query)
        return definition(connection, "rendered_by_sql")
