"""The model server in a process of its own, for the demo: it must not compete with the application's threads."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import IO

from pgvmig.demo.model_server import KEY_VARIABLE
from pgvmig.demo.providers import base_url
from pgvmig.errors import ConfigError

_START_SECONDS = 60


@dataclass(frozen=True, slots=True)
class SpawnedServer:
    """A model server in a process of its own: the same addresses, and no faults."""

    port: int
    pid: int

    def base_url(self, provider: str) -> str:
        """Return what a client takes as `base_url`."""
        return base_url(self.port, provider)

    def counts(self) -> dict[str, dict[str, int]]:
        """Return requests, texts and embedded texts by provider."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", "/counts")
            counts: dict[str, dict[str, int]] = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return counts


@contextmanager
def spawned(
    models: Mapping[str, str], *, key: str | None = None, latency: float = 0.0, threads: int = 2
) -> Iterator[SpawnedServer]:
    """Serve the models, given by name and provider, from their own process until the block ends or this process does.

    It has a session of its own: Ctrl-C reaches only us, and our cleanup still finds the models answering.
    Raises ConfigError when a model cannot be loaded.
    """
    served = [f"--serve={provider}={model}" for provider, model in models.items()]
    command = [
        sys.executable,
        "-m",
        "pgvmig.demo.model_server",
        *served,
        f"--latency={latency}",
        f"--threads={threads}",
    ]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            env=os.environ | ({KEY_VARIABLE: key} if key is not None else {}),
        )
        with process:
            try:
                yield SpawnedServer(_port(process, log), process.pid)
            finally:
                process.kill()  # it holds nothing that is worth an orderly end


def _port(process: subprocess.Popen[bytes], log: IO[bytes]) -> int:
    """Return the port once the process answers on it."""
    assert process.stdout is not None  # noqa: S101
    ready, _, _ = select.select([process.stdout], [], [], _START_SECONDS)
    said = json.loads((ready and process.stdout.readline()) or "{}")
    if "port" in said:
        return int(said["port"])
    if "error" in said:
        raise ConfigError(**said["error"])
    log.seek(0)
    last = log.read().decode(errors="replace").strip().rpartition("\n")[2]
    raise ConfigError(f"the model server did not start: {last or f'nothing said for {_START_SECONDS} s'}")
