"""What is no table that could have vectors, and keys that identify nothing: refused, with the reason."""

import psycopg
import pytest
from lifecycle import add_version
from psycopg import sql
from refusals import REFUSALS

from pgvmig.errors import ConflictError, DatabaseError, NotFoundError


@pytest.mark.layouts
@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.name)
def test_what_is_not_taken_says_why(database, layout, refusal):
    connection = database.connect()
    connection.execute(refusal.made)
    with pytest.raises(refusal.error) as refused:
        add_version(connection, refusal.table, "v1", schema=refusal.schema, layout=layout)
    assert str(refused.value) == refusal.said


@pytest.mark.parametrize("refusal", [r for r in REFUSALS if r.name.endswith("-key")], ids=lambda refusal: refusal.name)
def test_to_name_such_a_key_does_not_help(database, refusal):
    connection = database.connect()
    connection.execute(refusal.made)
    with pytest.raises(NotFoundError) as refused:
        add_version(connection, "documents", "v1", key=["id"])
    assert str(refused.value) == (
        "documents has no unique key without NULLs on id. Nobody could say which row a vector belongs to. "
        "Next: add one, or name key=[...]"
    )


@pytest.mark.layouts
def test_columns_that_the_views_do_not_show_are_not_ignored(database, layout):
    connection = database.connect()
    connection.execute("CREATE TABLE documents (id int PRIMARY KEY, body text, note text)")
    add_version(connection, "documents", "v1", columns=["id", "body"], layout=layout)
    with pytest.raises(ConflictError) as refused:
        add_version(connection, "documents", "v2", {"model_version": "2"}, columns=["id", "body", "note"])
    assert str(refused.value) == (
        "the views of documents show the columns id, body, embedding, not id, body, note, embedding. PostgreSQL swaps "
        "the current view between versions that show the same columns only. Next: leave columns= out, or name those; "
        "op.refresh_embedding_views() appends new ones"
    )
    connection.execute("ALTER TABLE documents RENAME body TO text")
    for version, columns in (("v2", ["id", "text"]), ("v3", ["id", "body"])):
        contract = {"model_version": version, "input": "text"}
        assert add_version(connection, "documents", version, contract, columns=columns).version == version


def test_a_table_that_is_full_of_columns_has_room_beside_it(database):
    connection = database.connect()
    columns = ", ".join(f"c{i} bool" for i in range(1595))
    connection.execute(f"CREATE TABLE documents (id int PRIMARY KEY, body text, {columns})")
    with pytest.raises(DatabaseError, match="tables can have at most 1600 columns"):
        add_version(connection, "documents", "v1", layout="column", columns=["id", "body"])
    add_version(connection, "documents", "v1", layout="table", columns=["id", "body"])


def test_functions_in_standard_sql_that_return_rows_need_the_table_layout(database):
    """Such a function has the columns that there were when it was made, so any ADD COLUMN breaks it."""
    connection = database.connect()
    connection.execute("CREATE TABLE documents (id int PRIMARY KEY, body text)")
    returns = "CREATE FUNCTION {} RETURNS SETOF documents LANGUAGE sql {}"
    connection.execute(returns.format("as_text()", "AS 'SELECT * FROM documents'"))
    connection.execute(returns.format("parsed()", "BEGIN ATOMIC SELECT * FROM documents; END"))
    as_text, parsed = (sql.SQL("SELECT * FROM {}()").format(sql.Identifier(name)) for name in ("as_text", "parsed"))
    add_version(connection, "documents", "v1", layout="table")
    for call in (as_text, parsed):
        connection.execute(call)
    add_version(connection, "documents", "v2", {"model_version": "2"}, layout="column")
    connection.execute(as_text)
    with pytest.raises(psycopg.errors.InvalidFunctionDefinition):
        connection.execute(parsed)
