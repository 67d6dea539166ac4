"""A table with two complete versions, the first of them active, and a searcher."""

import pytest
from lifecycle import add_version, install
from searching import TEXTS, V1, V2, Embedders, vectors
from vectors import cut_over, write

from pgvmig.reading import Searcher


@pytest.fixture
def connection(database):
    connection = database.connect()
    install(connection)
    connection.execute("CREATE TABLE documents (id bigint PRIMARY KEY, tenant text DEFAULT 'a', body text)")
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO documents (id, body) VALUES (%s, %s)", TEXTS.items())
    return connection


@pytest.fixture
def versions(connection):
    """v1 and v2, of the same dimensions, complete; v1 is active."""
    found = []
    for name, contract in (("v1", V1), ("v2", V2)):
        version = add_version(connection, "documents", name, contract)
        write(connection, version, vectors(version.contract))
        found.append(version)
    cut_over(connection, found[0])
    return found


@pytest.fixture
def embedders():
    return Embedders()


@pytest.fixture
def searcher(database, versions, embedders):
    """On a connection of its own, as psycopg opens it by default: not in autocommit mode."""
    with Searcher(database.connect(autocommit=False), "documents", open_embedder=embedders) as searcher:
        yield searcher
