"""An OpenAI-compatible server that has its vectors at hand, in a process of its own: it must never be what is slow.

A text's vector is one of a pool of ready-made ones, chosen by a checksum of the text, so that everybody who asks gets
the same. Both ways of writing a vector, base64 and numbers, are rendered once. The requests are counted.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import subprocess
import sys
import time
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt

POOL = 2_048
MODEL = "text-embedding-3-small"


def vectors(dimensions: int, seed: int = 7) -> npt.NDArray[np.float32]:
    """Return the pool: POOL vectors of unit length, the same every time."""
    drawn = np.random.default_rng(seed).standard_normal((POOL, dimensions)).astype(np.float32)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    return drawn


def number(text: str) -> int:
    """Return which vector of the pool belongs to a text."""
    return zlib.crc32(text.encode()) % POOL


@dataclass
class Counts:
    """What was asked since the last reset. `first` and `last` are clock times of the first and the last request."""

    requests: int = 0
    texts: int = 0
    first: float | None = None
    last: float | None = None
    seen: set[int] = field(default_factory=set)

    def add(self, texts: list[str]) -> None:
        """Count a request."""
        self.last = time.time()
        self.first = self.first or self.last
        self.requests += 1
        self.texts += len(texts)
        self.seen.update(map(hash, texts))

    def render(self) -> bytes:
        """Return them as JSON; `distinct` is the number of different texts."""
        shown = {"requests": self.requests, "texts": self.texts, "distinct": len(self.seen)}
        return json.dumps(shown | {"first": self.first, "last": self.last}).encode()


class Model:
    """Renders answers from parts that were rendered beforehand."""

    def __init__(self, dimensions: int) -> None:
        pool = vectors(dimensions)
        self._base64 = [f'"{base64.b64encode(row.tobytes()).decode()}"'.encode() for row in pool]
        # the shortest digits that are the same float32, as the vendor writes them
        self._floats = [("[" + ",".join(map(str, row)) + "]").encode() for row in pool]

    def answer(self, asked: dict[str, Any]) -> bytes:
        """Return the body of the answer to a request for embeddings."""
        texts = asked["input"]
        parts = self._base64 if asked.get("encoding_format") == "base64" else self._floats
        items = b",".join(
            b'{"object":"embedding","index":%d,"embedding":%b}' % (i, parts[number(text)])
            for i, text in enumerate(texts)
        )
        tokens = sum(map(len, texts)) // 4
        usage = b'{"prompt_tokens":%d,"total_tokens":%d}' % (tokens, tokens)
        model = json.dumps(asked["model"]).encode()
        return b'{"object":"list","data":[%b],"model":%b,"usage":%b}' % (items, model, usage)


@dataclass
class Service:
    """What all connections share."""

    model: Model
    latency: float
    counts: Counts = field(default_factory=Counts)


class _Connection(asyncio.Protocol):
    """HTTP/1.1 with content-length, kept alive: what the clients of embedding APIs speak."""

    _transport: asyncio.Transport

    def __init__(self, service: Service) -> None:
        self._service = service
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (request := self._next()) is not None:
            self._handle(*request)

    def _next(self) -> tuple[str, bytes] | None:
        """Take a whole request off what was received: its path and its body."""
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return None
        first, *headers = self._received[:end].decode("latin-1").split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in headers)
        total = end + 4 + int(fields.get("content-length", 0))
        if len(self._received) < total:
            return None
        body = bytes(self._received[end + 4 : total])
        del self._received[:total]
        return first.split(" ")[1], body

    def _handle(self, path: str, body: bytes) -> None:
        service = self._service
        if path.endswith("/embeddings"):
            asked = json.loads(body)
            service.counts.add(asked["input"])
            answer = service.model.answer(asked)
            asyncio.get_running_loop().call_later(service.latency, self._send, answer)
            return
        self._send(service.counts.render())
        if path == "/reset":
            service.counts = Counts()

    def _send(self, body: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        self._transport.write(head + body)


@dataclass(frozen=True, slots=True)
class Provider:
    """The running server."""

    port: int

    @property
    def base_url(self) -> str:
        """What a client takes as `base_url`."""
        return f"http://127.0.0.1:{self.port}/v1"

    def counts(self, *, reset: bool = False) -> dict[str, Any]:
        """Return what was counted; `reset` begins anew."""
        path = "reset" if reset else "counts"
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=10) as answer:
            counted: dict[str, Any] = json.loads(answer.read())
        return counted


@contextmanager
def spawned(dimensions: int, latency: float = 0.0) -> Iterator[Provider]:
    """Run the server until the block ends, or this process does."""
    command = [sys.executable, "-m", "bench.provider", f"--dimensions={dimensions}", f"--latency={latency}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            yield Provider(int(process.stdout.readline()))
        finally:
            process.kill()


async def _serve(dimensions: int, latency: float) -> None:
    service = Service(Model(dimensions), latency)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(service), "127.0.0.1", 0, backlog=128)
    print(server.sockets[0].getsockname()[1], flush=True)
    # whoever started us holds the other end of our standard input
    await loop.run_in_executor(None, sys.stdin.buffer.read)
    os._exit(0)


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m bench.provider", description=__doc__)
    parser.add_argument("--dimensions", type=int, required=True)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds that every request takes at least")
    options = parser.parse_args()
    asyncio.run(_serve(options.dimensions, options.latency))


if __name__ == "__main__":
    main()
