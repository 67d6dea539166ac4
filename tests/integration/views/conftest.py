"""A table with two versions, the first of them active."""

import pytest
from lifecycle import add_version, install
from psycopg import sql
from vectors import cut_over, write
from viewing import (
    ROW_1,
    V1,
    V2,
)


@pytest.fixture
def connection(database):
    connection = database.connect()
    install(connection)
    connection.execute("CREATE TABLE documents (id bigint PRIMARY KEY, tenant name DEFAULT 'a', title text, body text)")
    connection.execute("INSERT INTO documents (id, body) VALUES (1, 'one'), (2, 'two'), (3, 'three')")
    return connection


@pytest.fixture
def versions(connection):
    """v1 (8 dimensions) on rows 1 and 2, active; v2 (4 dimensions) on all rows."""
    v1, v2 = add_version(connection, "documents", "v1", V1), add_version(connection, "documents", "v2", V2)
    write(connection, v1, {1: ROW_1, 2: [0, 1, 0, 0, 0, 0, 0, 0]})
    write(connection, v2, {1: [1, 0, 0, 0], 2: [0, 1, 0, 0], 3: [0, 0, 1, 0]})
    cut_over(connection, v1)
    return v1, v2


@pytest.fixture
def role(connection):
    """A role of this test's own, that owns nothing."""
    name = f"{connection.info.dbname}_reader"
    connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(name)))
    yield name
    connection.execute("RESET ROLE")
    connection.execute(sql.SQL("REASSIGN OWNED BY {} TO CURRENT_USER").format(sql.Identifier(name)))
    connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
    connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))
