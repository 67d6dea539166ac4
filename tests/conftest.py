"""Fixtures that every test may use: a server of the chosen kind, fresh databases, a primary with its standby."""

from __future__ import annotations

import logging
import os
import sys
import tempfile

import psycopg
import pytest
from _pytest.nodeid import NodeId
from no_skips import pytest_make_collect_report, pytest_runtest_makereport  # noqa: F401  # hooks
from servers import SETTINGS, ReplicatedDatabase, Servers, UnavailableError, memory_directory, source, templates

from pgvmig import embedded


def pytest_configure():
    """Let temporary files, and with them all that embedded servers write, be in memory where there is enough of it."""
    if "TMPDIR" not in os.environ and (memory := memory_directory()):
        os.environ["TMPDIR"] = tempfile.tempdir = memory


def pytest_report_header():
    return f"PostgreSQL for tests: {source()}; temporary files: {tempfile.gettempdir()}"


def pytest_generate_tests(metafunc):
    """Run a test marked `majors(18, 16)` on each, and one marked `pg16` on 16; the closest mark decides."""
    if "pg_major" in metafunc.fixturenames and (majors := _majors(metafunc.definition)):
        values = [pytest.param(major, id=f"pg{major}", marks=[pytest.mark.pg16] * (major == 16)) for major in majors]
        metafunc.parametrize("pg_major", values)


def _majors(item):
    for mark in item.iter_markers():
        if mark.name == "majors":
            return mark.args
        if mark.name == "pg16":
            return (16,)
    return ()


def pytest_collection_finish():
    """From here on compile what is imported anew: a revision that a test writes twice in a second would not be read."""
    sys.dont_write_bytecode = True


@pytest.hookimpl(tryfirst=True)  # before -m looks at the marks
def pytest_collection_modifyitems(config, items):
    for item in items:
        if "primary_and_standby" in item.fixturenames:
            item.add_marker("standby")
        if config.getoption("loadgroup", default=False):
            _send_with_its_group(item)


def _send_with_its_group(item):
    """Do what pytest-xdist 3.8 does for `xdist_group`, and pytest 9.2 no longer lets it do: by an attribute.

    Without it the tests of a group run in every process, each with a wheel, a browser or a model of its own.
    """
    group = item.get_closest_marker("xdist_group")
    if group is not None and not item.nodeid.endswith(f"@{group.args[0]}"):
        item._id = NodeId.parse(f"{item.nodeid}@{group.args[0]}")


@pytest.fixture(autouse=True)
def _loggers_stay():
    """Fail the test that silences this process's loggers, and not the one that misses a message much later."""
    yield
    loggers = [logging.getLogger(name) for name in logging.root.manager.loggerDict if name.startswith("pgvmig")]
    silent = [logger.name for logger in loggers if logger.disabled]
    for logger in loggers:
        logger.disabled = False
    assert not silent, f"disabled in this test, by a fileConfig(): {silent}"


@pytest.fixture(scope="session")
def servers():
    """All servers of this process by major, started on first use."""
    with Servers() as started:
        yield started


# Not of the session: there a test without a mark would get the server of the marked one before it.
@pytest.fixture
def pg_major(servers):
    """The major that a test without a mark runs on."""
    return servers.default_major


@pytest.fixture
def server(servers, pg_major):
    """A PostgreSQL server that databases may be created in."""
    try:
        return servers.get(pg_major)
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture
def installed():
    """Whether a fresh database has the control schema already; so it is for the integration tests."""
    return False


@pytest.fixture
def database(server, installed):
    """A fresh database with pgvector: `.dsn`, `.url` and `.connect()`."""
    with server.database(installed=installed) as fresh:
        yield fresh


@pytest.fixture(scope="session")
def primary_and_standby():
    """Two embedded servers, the second streaming from the first; always embedded, whatever the other tests use."""
    with embedded.running(settings=SETTINGS) as primary, embedded.standby(primary, settings=SETTINGS) as standby:
        yield primary, standby


@pytest.fixture(scope="session")
def _replicated_cluster(primary_and_standby):
    primary, _ = primary_and_standby
    with templates("embedded", primary.major, primary.dsn()) as cluster:
        yield cluster


@pytest.fixture
def replicated_database(primary_and_standby, _replicated_cluster, installed):
    """A fresh database on the primary, replayed on the standby: also `.primary`, `.standby`, `.wait_for_replay()`."""
    primary, standby = primary_and_standby
    _repair(primary, standby)
    with _replicated_cluster.clone(installed=installed) as name:
        database = ReplicatedDatabase(name, primary.major, primary.dsn(name), primary=primary, standby=standby)
        database.wait_for_replay()
        try:
            yield database
        finally:
            database.close()
            _repair(primary, standby)


def _repair(primary, standby):
    """Undo what a test may leave behind when it fails: a stopped server, a paused replay."""
    primary.start()
    standby.start()
    with psycopg.connect(standby.dsn(), autocommit=True) as connection:
        connection.execute("SELECT pg_wal_replay_resume()")
