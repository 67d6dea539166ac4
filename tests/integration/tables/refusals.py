"""What pgvmig does not take, in either layout, and what it says; docs/tables.md is written from this list."""

from __future__ import annotations

from typing import NamedTuple

from pgvmig.errors import ConflictError, NotFoundError, PgvmigError


class Refusal(NamedTuple):
    """`made` by these statements, `table` in `schema` is refused; `what` it is for docs/tables.md."""

    name: str
    what: str
    made: str
    error: type[PgvmigError]
    said: str
    table: str = "documents"
    schema: str | None = "public"


NO_KEY = (
    "documents has no primary key and no unique key without NULLs. Nobody could say which row a vector belongs to. "
    "Next: add one, or name key=[...]"
)

REFUSALS = [
    Refusal(
        name="unlogged",
        what="unlogged tables",
        made="CREATE UNLOGGED TABLE documents (id int PRIMARY KEY, body text)",
        error=ConflictError,
        said="documents is unlogged. A crash empties it, and its standbys never see it. "
        "Next: ALTER TABLE documents SET LOGGED",
    ),
    Refusal(
        name="temporary",
        what="temporary tables",
        made="CREATE TEMPORARY TABLE documents (id int PRIMARY KEY, body text)",
        error=ConflictError,
        said="documents is temporary. It ends with this session, and no worker sees it. Next: use a permanent table",
        schema=None,
    ),
    Refusal(
        name="inherited",
        what="table inheritance (`INHERITS`)",
        made="CREATE TABLE documents (id int PRIMARY KEY, body text); CREATE TABLE child () INHERITS (documents)",
        error=ConflictError,
        said="documents inherits, or is inherited from. Triggers and indexes are not inherited, rows are: those of the "
        "children would change unseen. Next: use pgvmig on a table of its own",
    ),
    Refusal(
        name="partition",
        what="a single partition",
        made="CREATE TABLE every (id int PRIMARY KEY, body text) PARTITION BY HASH (id); "
        "CREATE TABLE documents PARTITION OF every FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
        error=ConflictError,
        said="documents is a partition of every. Searches through the whole table would find vectors in one partition "
        "and none in the others. Next: name every: its partitions, and those to come, are taken with it",
    ),
    Refusal(
        name="foreign",
        what="foreign tables",
        made="CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w; "
        "CREATE FOREIGN TABLE documents (id int, body text) SERVER s",
        error=NotFoundError,
        said="documents is a foreign table. Its rows are another server's, where they change unseen. "
        "Next: use pgvmig in the database that has the rows, or copy them into a table here",
    ),
    Refusal(
        name="view",
        what="views",
        made="CREATE VIEW documents AS SELECT 1 AS id, 'x' AS body",
        error=NotFoundError,
        said="documents is a view. Its rows are other tables'. Next: name the table that it reads",
    ),
    Refusal(
        name="materialised",
        what="materialised views",
        made="CREATE MATERIALIZED VIEW documents AS SELECT 1 AS id, 'x' AS body",
        error=NotFoundError,
        said="documents is a materialised view. REFRESH replaces its rows and fires no trigger. "
        "Next: name the table that it reads",
    ),
    Refusal(
        name="sequence",
        what="sequences, indexes, row types",
        made="CREATE SEQUENCE documents",
        error=NotFoundError,
        said="documents is not a table. Next: name a table",
    ),
    Refusal(
        name="catalog",
        what="PostgreSQL's own tables",
        made="SELECT",
        error=ConflictError,
        said="pg_catalog.pg_class is PostgreSQL's own. Next: name a table of your application's",
        table="pg_class",
        schema="pg_catalog",
    ),
    Refusal(
        name="control-schema",
        what="pgvmig's own tables",
        made="SELECT",
        error=ConflictError,
        said="pgvmig.event is pgvmig's own. Next: name a table of your application's",
        table="event",
        schema="pgvmig",
    ),
    Refusal(
        name="no-key",
        what="no primary key, and no unique one",
        made="CREATE TABLE documents (id int NOT NULL, body text)",
        error=NotFoundError,
        said=NO_KEY,
    ),
    Refusal(
        name="nullable-key",
        what="a unique key that may be NULL, in part or as a whole",
        made="CREATE TABLE documents (id int NOT NULL, place int, body text, UNIQUE (id, place))",
        error=NotFoundError,
        said=NO_KEY,
    ),
    Refusal(
        name="partial-key",
        what="a unique index over some of the rows (`WHERE`)",
        made="CREATE TABLE documents (id int NOT NULL, body text); CREATE UNIQUE INDEX ON documents (id) WHERE id > 0",
        error=NotFoundError,
        said=NO_KEY,
    ),
    Refusal(
        name="expression-key",
        what="a unique index over an expression",
        made="CREATE TABLE documents (id text NOT NULL, body text); CREATE UNIQUE INDEX ON documents (lower(id))",
        error=NotFoundError,
        said=NO_KEY,
    ),
    Refusal(
        name="exclusion-key",
        what="an exclusion constraint instead of a unique key",
        made="CREATE TABLE documents (id int4range NOT NULL, body text, EXCLUDE USING gist (id WITH &&))",
        error=NotFoundError,
        said=NO_KEY,
    ),
]
