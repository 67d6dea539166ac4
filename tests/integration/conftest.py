"""Fixtures of the integration tests."""

import lifecycle
import pytest
from backfilling import Site
from commands import runner

from pgvmig.catalog import standbys
from pgvmig.demo.model_server import serving
from pgvmig.demo.models import HashModel


@pytest.fixture
def model_server():
    with serving({"new": HashModel("hash", 8), "other": HashModel("other", 8)}) as running:
        yield running


def pytest_generate_tests(metafunc):
    """Run a test marked `layouts` in both, or in those that the closest mark names."""
    mark = metafunc.definition.get_closest_marker("layouts")
    if mark is not None and "layout" in metafunc.fixturenames:
        metafunc.parametrize("layout", mark.args or ("column", "table"))


@pytest.fixture
def installed(request):
    """Fresh databases have the control schema, but for tests marked `bare`."""
    return request.node.get_closest_marker("bare") is None


@pytest.fixture
def layout():
    """The layout of the versions that a test adds; the mark `layouts` runs it in both."""
    return "column"


@pytest.fixture(autouse=True)
def _layout_of_versions(layout, monkeypatch):
    monkeypatch.setattr(lifecycle, "LAYOUT", layout)


@pytest.fixture
def primary(replicated_database):
    """The primary with the control schema, its standby declared, and a table for a load."""
    connection = replicated_database.connect()
    lifecycle.install(connection)
    connection.execute("CREATE TABLE load (n int)")
    standbys.add(connection, "standby1")
    replicated_database.wait_for_replay()
    return connection


@pytest.fixture
def one_by_one(tmp_path, monkeypatch):
    """Let workers send the provider `new` one request at a time, so that it is known what is lost with one."""
    (tmp_path / "pgvmig.toml").write_text("[providers.new]\nconcurrency = 1\n")
    monkeypatch.setenv("PGVMIG_CONFIG", str(tmp_path / "pgvmig.toml"))


@pytest.fixture
def site(database, model_server, monkeypatch):
    """A database with the control schema, whose providers lead to the model server."""
    for provider in model_server.models:
        monkeypatch.setenv(f"PGVMIG_{provider.upper()}_BASE_URL", model_server.base_url(provider))
    return Site(database, model_server)


@pytest.fixture
def pgvmig(database, monkeypatch, capsys):
    """Run `pgvmig` with arguments; returns exit code, stdout, stderr."""
    return runner(database.dsn, monkeypatch, capsys)
