"""Which PostgreSQL the tests use, and fresh databases in it.

`PGVMIG_TEST_DSN` when set, else testcontainers where a Docker daemon answers, else the embedded server.
`PGVMIG_TEST_SERVER=embedded` (or `testcontainers`) chooses among the last two.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import URL

from pgvmig import embedded
from pgvmig.catalog import schema
from pgvmig.errors import ConfigError
from pgvmig.runner import ConnectionRunner

DEFAULT_MAJOR = 18
SETTINGS = {"fsync": "off", "shared_buffers": "32MB", "max_connections": "100", "max_wal_size": "256MB"}
# Where Linux has memory as a file system, and how much of that a whole run may take at the most.
_MEMORY = Path("/dev/shm")
_ENOUGH_MEMORY = 4 * 1024**3
_numbers = count(1)


class UnavailableError(Exception):
    """No PostgreSQL of that major is to be had here."""


@dataclass
class Database:
    """A fresh database with pgvector in it. Connections made through it are closed with it."""

    name: str
    major: int
    dsn: str
    _open: list[psycopg.Connection[Any]] = field(default_factory=list, repr=False)

    @property
    def url(self) -> str:
        """SQLAlchemy's URL."""
        return sqlalchemy_url(self.dsn)

    def connect(self, **options: Any) -> psycopg.Connection[Any]:
        """Connect, in autocommit mode unless told otherwise."""
        self._open.append(psycopg.connect(self.dsn, **{"autocommit": True, **options}))
        return self._open[-1]

    def close(self) -> None:
        """Close what `connect` opened."""
        while self._open:
            self._open.pop().close()


@dataclass
class ReplicatedDatabase(Database):
    """A fresh database on a primary that streams to a standby."""

    primary: embedded.Server = None  # type: ignore[assignment]
    standby: embedded.Server = None  # type: ignore[assignment]

    @property
    def standby_dsn(self) -> str:
        """The same database on the standby, read-only."""
        return self.standby.dsn(self.name)

    def wait_for_replay(self, seconds: float = 30) -> None:
        """Wait until the standby has replayed everything that the primary has written."""
        with psycopg.connect(self.primary.dsn(), autocommit=True) as connection:
            target = connection.execute("SELECT pg_current_wal_lsn()").fetchone()[0]
        deadline = time.monotonic() + seconds
        with psycopg.connect(self.standby.dsn(), autocommit=True) as connection:
            while not connection.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", (target,)).fetchone()[0]:
                assert time.monotonic() < deadline, f"the standby did not reach {target} in {seconds} s"
                time.sleep(0.02)


@dataclass(frozen=True)
class Cluster:
    """A PostgreSQL server, and the templates in it that fresh databases are cloned from.

    `template` has pgvector, `installed` the control schema as well: to install it takes longer than most tests.
    """

    source: str
    major: int
    conninfo: str
    template: str
    installed: str | None = None

    def dsn(self, dbname: str) -> str:
        """Return the connection string of one of its databases."""
        return make_conninfo(self.conninfo, dbname=dbname)

    @contextmanager
    def database(self, *, installed: bool = False) -> Iterator[Database]:
        """Clone a template; the clone is dropped at the end, whoever is still connected."""
        with self.clone(installed=installed) as name:
            database = Database(name, self.major, self.dsn(name))
            try:
                yield database
            finally:
                database.close()

    @contextmanager
    def clone(self, *, installed: bool = False) -> Iterator[str]:
        """Yield the name of a new database, dropped at the end."""
        name = unique_name("test")
        with _created(self.conninfo, name, (self.installed or "") if installed else self.template):
            yield name


class Servers:
    """One server for each major, started on its first use and stopped at the end."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._running: dict[int, Cluster | UnavailableError] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(*error)

    @property
    def default_major(self) -> int:
        """The given server's, whatever it is; else 18."""
        return _major(os.environ["PGVMIG_TEST_DSN"]) if source() == "PGVMIG_TEST_DSN" else DEFAULT_MAJOR

    def get(self, major: int) -> Cluster:
        """Return the server of that major. Raises UnavailableError."""
        if major not in self._running:
            try:
                self._running[major] = self._stack.enter_context(_cluster(major))
            except UnavailableError as error:
                self._running[major] = error
        cluster = self._running[major]
        if isinstance(cluster, UnavailableError):
            raise cluster
        return cluster

    def closest(self, major: int) -> Cluster:
        """Return the server of that major, or of the default one where there is none."""
        try:
            return self.get(major)
        except UnavailableError:
            return self.get(self.default_major)


def memory_directory() -> str | None:
    """Return a directory in memory for temporary files, None where there is none that is large enough.

    Creating and dropping a database are some hundred files each, which take a disk ten times as long as memory.
    """
    try:
        found = os.statvfs(_MEMORY)
    except OSError:
        return None
    # A container's has 64 MB, and programs cannot be started from it: the servers' may have to be copied there.
    roomy = found.f_bavail * found.f_frsize >= _ENOUGH_MEMORY and not found.f_flag & os.ST_NOEXEC
    return str(_MEMORY) if roomy and os.access(_MEMORY, os.W_OK) else None


def source() -> str:
    """Return where the servers come from."""
    return "PGVMIG_TEST_DSN" if os.environ.get("PGVMIG_TEST_DSN") else _started_source()


@cache
def _started_source() -> str:
    chosen = os.environ.get("PGVMIG_TEST_SERVER")
    if chosen not in (None, "", "embedded", "testcontainers"):
        raise ValueError(f"PGVMIG_TEST_SERVER={chosen}: neither embedded nor testcontainers")
    return chosen or ("testcontainers" if _docker_answers() else "embedded")


def _docker_answers() -> bool:
    try:
        import docker
    except ImportError:
        return False
    try:
        client = docker.from_env(timeout=5)
    except docker.errors.DockerException:
        return False
    try:
        return bool(client.ping())
    except Exception:  # noqa: BLE001  # refused, timed out, not Docker: whatever it is, there is no daemon for us
        return False
    finally:
        client.close()


@contextmanager
def _cluster(major: int) -> Iterator[Cluster]:
    given = os.environ.get("PGVMIG_TEST_DSN")
    if given and _major(given) == major:
        with templates("PGVMIG_TEST_DSN", major, given) as cluster:
            yield cluster
        return
    start = _container if _started_source() == "testcontainers" else _embedded
    with start(major) as conninfo, templates(_started_source(), major, conninfo) as cluster:
        yield cluster


@contextmanager
def _embedded(major: int) -> Iterator[str]:
    with ExitStack() as stack:
        try:
            server = stack.enter_context(embedded.running(major, settings=SETTINGS))
        except ConfigError as error:
            raise UnavailableError(f"PostgreSQL {major}: {error}") from error
        yield server.dsn()


@contextmanager
def _container(major: int) -> Iterator[str]:
    from testcontainers.community.postgres import PostgresContainer

    settings = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
    container = PostgresContainer(f"pgvector/pgvector:pg{major}", username="postgres", dbname="postgres")
    # A parallel HNSW build wants more shared memory than the 64 MB that Docker gives.
    container.with_command(f"postgres {settings}").with_kwargs(shm_size="256m")
    with container as server:
        yield make_conninfo(
            "",
            host=server.get_container_host_ip(),
            port=int(server.get_exposed_port(server.port)),
            user=server.username,
            password=server.password,
            dbname=server.dbname,
        )


@contextmanager
def templates(source: str, major: int, conninfo: str) -> Iterator[Cluster]:
    """Make a server's templates; they are dropped at the end."""
    with _created(conninfo, unique_name("template"), "template1") as template:
        add_vector(make_conninfo(conninfo, dbname=template))
        with _created(conninfo, unique_name("template"), template) as installed:
            with psycopg.connect(make_conninfo(conninfo, dbname=installed)) as connection:
                schema.install(ConnectionRunner(connection))
            yield Cluster(source, major, conninfo, template, installed)


@contextmanager
def _created(conninfo: str, name: str, template: str) -> Iterator[str]:
    create = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(create)
    try:
        yield name
    finally:
        drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute(drop)


def add_vector(dsn: str) -> None:
    """Create pgvector's extension."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")


def unique_name(kind: str) -> str:
    """Return a database's name that no other process of this test run uses, on a shared server either."""
    return f"pgvmig_{kind}_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}_{os.getpid()}_{next(_numbers)}"


def sqlalchemy_url(dsn: str) -> str:
    """Return SQLAlchemy's URL for libpq's connection string."""
    parts = conninfo_to_dict(dsn)
    # A socket's directory is no host name to a URL; the rest are libpq's parameters, which psycopg takes.
    host = None if str(parts.get("host", "")).startswith("/") else parts.pop("host", None)
    port = parts.pop("port", None)
    url = URL.create(
        "postgresql+psycopg",
        username=parts.pop("user", None),
        password=parts.pop("password", None),
        host=host,
        port=int(port) if port else None,
        database=parts.pop("dbname", None),
        query={name: str(value) for name, value in parts.items()},
    )
    return url.render_as_string(hide_password=False)


@cache
def _major(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        return connection.info.server_version // 10_000
