"""A table of every shape, and the roles that some of them have."""

import contextlib

import pytest
from psycopg import sql

from pgvmig.demo.model_server import serving
from pgvmig.demo.models import HashModel


@pytest.fixture(scope="module")
def model_server():
    with serving({"new": HashModel("hash", 8), "other": HashModel("other", 8)}) as running:
        yield running


@pytest.fixture
def roles(site):
    """Names of two roles of this test's own, made when first asked for; they and what they own go with it."""
    names = {role: f"{site.database.name}_{role}" for role in ("a", "b")}
    yield names
    with contextlib.suppress(Exception):
        site.connection.execute("RESET ROLE")
    for name in names.values():
        if site.value("SELECT count(*) FROM pg_roles WHERE rolname = %s", name):
            site.connection.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(name)))
            site.connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))
