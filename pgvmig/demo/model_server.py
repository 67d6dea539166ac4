"""The HTTP server for local models: in threads of the tests, or a program of its own (`model_process` starts it).

Speaks HTTP/1.1 on 127.0.0.1 and nothing else; what it answers is decided in `providers`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import socket
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pgvmig.demo.faults import Fault, Faults
from pgvmig.demo.models import LocalModel, load
from pgvmig.demo.providers import ModelServer, Poison, Request
from pgvmig.errors import PgvmigError

__all__ = ["Fault", "Faults", "ModelServer", "Request", "serving"]

# Where the process finds its key: the arguments of a process can be read by everybody.
KEY_VARIABLE = "PGVMIG_MODEL_SERVER_KEY"


@contextmanager
def serving(
    models: Mapping[str, LocalModel],
    *,
    faults: Iterable[Fault] = (),
    key: str | None = None,
    latency: float = 0.0,
    poison: Poison | None = None,
    record: bool = True,
    port: int = 0,
) -> Iterator[ModelServer]:
    """Serve the models, by provider, from threads of this process until the block ends."""
    model_server = ModelServer(models, key, latency, Faults(faults), poison, record=record)
    http_server = _HttpServer(model_server, port)
    model_server.port = http_server.server_address[1]
    thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.05}, name="model-server")
    thread.start()
    try:
        yield model_server
    finally:
        model_server.stop()
        http_server.shutdown()
        thread.join()
        http_server.server_close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until standard input ends, which it does when whoever started us ends, however that happens."""
    options = _parser().parse_args(arguments)
    try:
        models = {provider: load(model, options.threads) for provider, model in options.serve}
        key = os.environ.pop(KEY_VARIABLE, None)
        with serving(models, key=key, latency=options.latency, record=False, port=options.port) as server:
            print(json.dumps({"port": server.port}), flush=True)
            sys.stdin.buffer.read()
            os._exit(0)  # nobody is left to answer, so no request is waited for
    except PgvmigError as error:
        said = {"found": error.found, "hazard": error.hazard, "next_step": error.next_step}
        print(json.dumps({"error": said}), flush=True)
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pgvmig.demo.model_server", description=main.__doc__)
    parser.add_argument(
        "--serve",
        action="append",
        required=True,
        type=_provider_and_model,
        metavar="PROVIDER=MODEL",
        help="a model and the provider whose base path it gets; repeatable",
    )
    parser.add_argument("--port", type=int, default=0, help="0: a free one; printed as a line of JSON when ready")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds that every request takes at least")
    parser.add_argument("--threads", type=int, default=1, help="threads of each model")
    return parser


def _provider_and_model(given: str) -> tuple[str, str]:
    provider, equals, model = given.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{given!r} is not PROVIDER=MODEL")
    return provider, model


class _HttpServer(ThreadingHTTPServer):
    """Threads of its connections end with it: clients keep theirs open, and would keep the threads."""

    daemon_threads = False
    request_queue_size = 128

    def __init__(self, model_server: ModelServer, port: int) -> None:
        self.model_server = model_server
        self.numbers = itertools.count(1)
        self._connections: set[Any] = set()
        self._connecting = threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._connecting:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._connecting:
            self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that went away, which the tests' clients do on purpose."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def server_close(self) -> None:
        with self._connecting:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        super().server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # One packet an answer: with many small writes the client's delayed acknowledgement costs 40 ms a request.
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _HttpServer

    def do_POST(self) -> None:
        self._handle()

    def do_GET(self) -> None:
        self._handle()

    def log_message(self, *args: Any) -> None:
        """Nothing: what came in is in `requests`."""

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        path = self.path.partition("?")[0]
        answer = self.server.model_server.answer(self.command, path, self.headers.get("authorization"), body)
        if answer is None:
            self.close_connection = True
            return
        self.send_response(answer.status)
        headers = {"content-type": "application/json", "x-request-id": f"req_{next(self.server.numbers)}"}
        for name, value in (headers | dict(answer.headers) | {"content-length": str(len(answer.body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body[: answer.sent])
        self.close_connection |= answer.sent is not None


if __name__ == "__main__":
    sys.exit(main())
