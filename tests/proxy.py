"""A TCP proxy before PostgreSQL that cuts, stalls and loses answers, as networks and poolers do.

It understands of the protocol only what a COMMIT and a statement of the writer look like.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

_COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"
# Found in the statement by which a batch is counted, in the transaction that writes it.
_WRITES = b"rows_written = "
_CHUNK = 65536


class Proxy:
    """Listens on a free port of 127.0.0.1 and forwards to `target`, from `with` to its end.

    `refusing`: new connections end at once. `lose_answers` of so many coming COMMITs of a writer: the server commits,
    the client never hears. `lose_commits`: the client's COMMIT does not reach the server.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        parts = conninfo_to_dict(dsn)
        self.target = (str(parts["host"]), int(str(parts.get("port", 5432))))
        self.refusing = False
        self.lose_answers = 0
        self.lose_commits = 0
        self.cuts = 0
        self._flowing = threading.Event()
        self._flowing.set()
        self._lines: set[_Line] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._flowing.set()
        # closing alone does not wake who accepts
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        self.cut()

    @property
    def dsn(self) -> str:
        """The target's connection string, by way of us."""
        return make_conninfo(self._dsn, host="127.0.0.1", port=self._listener.getsockname()[1])

    def cut(self) -> None:
        """End every connection, in the middle of whatever it is doing."""
        with self._lock:
            lines = list(self._lines)
        for line in lines:
            self._forget(line)

    @contextmanager
    def refused(self) -> Iterator[None]:
        """Cut, and let nobody in until the block ends."""
        self.refusing = True
        self.cut()
        try:
            yield
        finally:
            self.refusing = False

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """Forward nothing until the block ends; nobody is told."""
        self._flowing.clear()
        try:
            yield
        finally:
            self._flowing.set()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self.refusing:
                    raise ConnectionRefusedError
                server = _dial(*self.target)
            except OSError:
                client.close()
                continue
            self._connect(_Line(client, server))

    def _connect(self, line: _Line) -> None:
        with self._lock:
            self._lines.add(line)
        for pump in (self._upwards, self._downwards):
            threading.Thread(target=self._pump, args=(pump, line), daemon=True).start()

    def _pump(self, pump: object, line: _Line) -> None:
        with suppress(OSError):
            pump(line)  # type: ignore[operator]
        self._forget(line)

    def _upwards(self, line: _Line) -> None:
        while data := line.client.recv(_CHUNK):
            self._flowing.wait()
            line.writes |= _WRITES in data
            if line.writes and data.endswith(_COMMIT):
                line.writes = False
                if self._takes("lose_commits"):
                    return
                line.losing = self._takes("lose_answers")
            line.server.sendall(data)

    def _downwards(self, line: _Line) -> None:
        while data := line.server.recv(_CHUNK):
            self._flowing.wait()
            if line.losing:
                return
            line.client.sendall(data)

    def _takes(self, what: str) -> bool:
        with self._lock:
            left = getattr(self, what)
            setattr(self, what, max(left - 1, 0))
            return left > 0

    def _forget(self, line: _Line) -> None:
        with self._lock:
            known = line in self._lines
            self._lines.discard(line)
            self.cuts += known
        if known:
            line.close()


def _dial(host: str, port: int) -> socket.socket:
    if host.startswith("/"):
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{host}/.s.PGSQL.{port}")
        return server
    server = socket.create_connection((host, port), timeout=5)
    server.settimeout(None)
    return server


class _Line:
    """A client's connection and ours to the server."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.writes = self.losing = False

    def close(self) -> None:
        """End both; shutting down wakes who reads."""
        for end in (self.client, self.server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
