"""How the tests choose their PostgreSQL server."""

import os
from types import SimpleNamespace

import psycopg
import pytest
import servers
from sqlalchemy import create_engine

from pgvmig import embedded
from pgvmig.errors import ConfigError


@pytest.fixture(autouse=True)
def _nothing_chosen(monkeypatch):
    monkeypatch.delenv("PGVMIG_TEST_DSN", raising=False)
    monkeypatch.delenv("PGVMIG_TEST_SERVER", raising=False)
    servers._started_source.cache_clear()
    yield
    servers._started_source.cache_clear()


@pytest.mark.parametrize(("answers", "expected"), [(True, "testcontainers"), (False, "embedded")])
def test_a_docker_daemon_decides(monkeypatch, answers, expected):
    monkeypatch.setattr(servers, "_docker_answers", lambda: answers)
    assert servers.source() == expected


def test_a_given_dsn_comes_first_and_a_chosen_server_second(monkeypatch):
    monkeypatch.setattr(servers, "_docker_answers", lambda: True)
    monkeypatch.setenv("PGVMIG_TEST_SERVER", "embedded")
    assert servers.source() == "embedded"
    monkeypatch.setenv("PGVMIG_TEST_DSN", "dbname=given")
    assert servers.source() == "PGVMIG_TEST_DSN"


def test_no_daemon_is_no_error(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    assert servers._docker_answers() is False


def test_unknown_choice_is_refused(monkeypatch):
    monkeypatch.setenv("PGVMIG_TEST_SERVER", "docker")
    with pytest.raises(ValueError, match="neither embedded nor testcontainers"):
        servers.source()


def test_without_the_package_a_major_is_unavailable_with_the_reason(monkeypatch):
    def missing(major):
        raise ConfigError("the package is not installed")

    monkeypatch.setenv("PGVMIG_TEST_SERVER", "embedded")
    monkeypatch.setattr(embedded, "_package", missing)
    with servers.Servers() as pool:
        for _ in range(2):  # the second test hears the same
            with pytest.raises(servers.UnavailableError, match="PostgreSQL 16: the package is not installed"):
                pool.get(16)


@pytest.mark.parametrize(
    "dsn",
    [
        "host=/run/postgresql port=5433 user=postgres dbname=documents",
        "host=127.0.0.1 user='a b' password='p@ss/w:rd' dbname='it\\'s' application_name=tests",
        "dbname=documents",
        "postgresql://me@db.example:5432/documents?connect_timeout=3",
    ],
)
def test_sqlalchemy_connects_to_what_the_dsn_says(dsn):
    engine = create_engine(servers.sqlalchemy_url(dsn))
    _, options = engine.dialect.create_connect_args(engine.url)
    told = {"dbname" if name == "database" else name: str(value) for name, value in options.items()}
    assert psycopg.conninfo.conninfo_to_dict(dsn).items() <= told.items()


@pytest.mark.parametrize(
    ("blocks", "flags", "there"),
    [(2**20, 0, True), (2**14, 0, False), (2**20, os.ST_NOEXEC, False)],
    ids=["roomy", "a container's", "no programs"],
)
def test_memory_is_used_where_there_is_enough_and_programs_may_run_from_it(monkeypatch, tmp_path, blocks, flags, there):
    monkeypatch.setattr(servers, "_MEMORY", tmp_path)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=blocks, f_frsize=4096, f_flag=flags))
    assert servers.memory_directory() == (str(tmp_path) if there else None)


def test_where_memory_is_no_file_system_the_disk_is_used(monkeypatch, tmp_path):
    monkeypatch.setattr(servers, "_MEMORY", tmp_path / "nowhere")
    assert servers.memory_directory() is None


def test_names_of_databases_differ_between_workers(monkeypatch):
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw7")
    one, other = servers.unique_name("test"), servers.unique_name("test")
    assert one.startswith("pgvmig_test_gw7_")
    assert one != other
