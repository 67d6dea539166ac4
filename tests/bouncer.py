"""PgBouncer in transaction mode before a server; Debian's package `pgbouncer`."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

_CONFIGURATION = """
[databases]
* = {server}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {connections}
server_login_retry = 1
logfile = {folder}/log
"""


def program() -> str | None:
    """Return the path of PgBouncer, None where it is not installed."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


class Bouncer:
    """A PgBouncer that pools a server's connections by transaction."""

    def __init__(self, dsn: str, folder: Path, connections: int) -> None:
        self._dsn = dsn
        self._port = _free_port()
        self._file = folder / "pgbouncer.ini"
        parts = conninfo_to_dict(dsn)
        server = " ".join(f"{name}={parts[name]}" for name in ("host", "port", "user", "password") if parts.get(name))
        self._file.write_text(
            _CONFIGURATION.format(server=server, port=self._port, connections=connections, folder=folder)
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def dsn(self) -> str:
        """The server's connection string, by way of PgBouncer."""
        return make_conninfo(self._dsn, host="127.0.0.1", port=self._port)

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        # It refuses to run as root.
        account = {"user": pwd.getpwnam("nobody").pw_uid} if os.geteuid() == 0 else {}
        self._process = subprocess.Popen(
            [str(program()), "-q", str(self._file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            **account,
        )
        deadline = time.monotonic() + 20
        while not self._answers():
            assert self._process.poll() is None, "PgBouncer did not start"
            assert time.monotonic() < deadline, "PgBouncer does not answer"
            time.sleep(0.02)

    def stop(self) -> None:
        """End it at once; its clients lose their connections."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(10)

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=1):
            return True
        return False


@contextmanager
def bouncing(dsn: str, connections: int = 4) -> Iterator[Bouncer]:
    """Run a PgBouncer before the server of a connection string; it may open so many connections to a database."""
    folder = Path(tempfile.mkdtemp(prefix="pgvmig-bouncer-"))
    folder.chmod(0o777)
    bouncer = Bouncer(dsn, folder, connections)
    try:
        bouncer.start()
        yield bouncer
    finally:
        bouncer.stop()
        shutil.rmtree(folder)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
