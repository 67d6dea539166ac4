"""The table layout's writing with vectors at hand, against a raw binary COPY of the same rows into a bare table.

What pgvmig does and the raw COPY does not: look whether the text still is the one that was embedded, take the row out
of the log, forget its outcome, write the provenance, renew the lease, count; a transaction for every batch.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from struct import pack

import numpy as np
import psycopg

from bench import provider, worker
from bench.figures import TIMES, Figure, Measurement, Target, ratios
from bench.lanes import Clock, lane_of
from bench.stage import Stage
from bench.tables import Documents
from pgvmig.catalog.connection import connect

_DIMENSIONS = 384
# What is written in 100 ms, the target of a transaction.
_BATCH = 5_000
# Each takes seconds, and a COPY of a tenth of a second is at the mercy of one flush.
_ROUNDS = 9
_FOREIGN_KEY = "FOREIGN KEY (key_id) REFERENCES public.documents ON DELETE CASCADE"
_RAW, _READ, _WRITTEN, _LOCKING = (
    "raw binary COPY into a bare table with a primary key",
    "walked, read and written",
    "written",
    "written, with a foreign key to the row",
)


def run(stage: Stage) -> list[Figure]:
    """Write the same vectors raw, by the worker's own code, and with a foreign key in addition."""
    documents = Documents(stage.pick(20_000, 1_000), characters=800, dimensions=0)
    samples: dict[str, list[float]] = defaultdict(list)
    ways: dict[str, Callable[[str, int], dict[str, float]]] = {
        _RAW: _raw,
        _WRITTEN: _layout,
        _LOCKING: lambda dsn, rows: {_LOCKING: _layout(dsn, rows, _FOREIGN_KEY)[_WRITTEN]},
    }
    for number in range(stage.pick(_ROUNDS, 1)):
        for what, way in ways.items():
            with stage.database(documents) as dsn:
                for name, rate in way(dsn, documents.rows).items():
                    samples[name].append(rate)
            stage.say(f"round {number + 1}, {what}: {samples[what][-1]:,.0f} rows/s")
    raw = samples[_RAW]
    return [
        *(Figure(what, "rows/s", tuple(samples[what])) for what in (_RAW, _WRITTEN, _READ, _LOCKING)),
        Figure("written over raw", TIMES, ratios(samples[_WRITTEN], raw), Target(at_least=0.5)),
        Figure("with a foreign key over raw", TIMES, ratios(samples[_LOCKING], raw)),
    ]


def _raw(dsn: str, rows: int) -> dict[str, float]:
    payload = _payload(rows)
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(f"CREATE TABLE bare (id bigint PRIMARY KEY, embedding vector({_DIMENSIONS}))")
        began = time.perf_counter()
        with conn.cursor().copy("COPY bare FROM STDIN (FORMAT BINARY)") as copy:
            copy.write(payload)
        return {_RAW: rows / (time.perf_counter() - began)}


def _payload(rows: int) -> bytes:
    size = 4 + 4 * _DIMENSIONS
    names = ["fields", "key_length", "key", "length", "dimensions", "unused"]
    kinds = [">i2", ">i4", ">i8", ">i4", ">i2", ">i2"]
    record = np.dtype([*zip(names, kinds, strict=True), ("vector", ">f4", _DIMENSIONS)])
    made = np.zeros(rows, record)
    for name, value in {"fields": 2, "key_length": 8, "length": size, "dimensions": _DIMENSIONS}.items():
        made[name] = value
    made["key"] = np.arange(1, rows + 1)
    made["vector"] = np.resize(provider.vectors(_DIMENSIONS), (rows, _DIMENSIONS))
    return b"PGCOPY\n\xff\r\n\0" + pack("!ii", 0, 0) + made.tobytes() + pack("!h", -1)


def _layout(dsn: str, rows: int, constraint: str | None = None) -> dict[str, float]:
    worker.prepare(dsn, layout="table", adopted=0)
    with connect(dsn) as conn:
        if constraint:
            conn.execute(f"ALTER TABLE public.documents_v2_vectors ADD {constraint}")
        clock = Clock(lane_of(conn, dsn, batch=_BATCH), provider.vectors(_DIMENSIONS))
        began = time.perf_counter()
        clock.run()
        whole = time.perf_counter() - began
        (written,) = conn.execute("SELECT count(*) FROM public.documents_v2").fetchone() or (0,)
    if written != rows:
        raise AssertionError(f"{written:,} of {rows:,} rows were written")
    return {_WRITTEN: rows / clock.writing, _READ: rows / whole}


MEASUREMENT = Measurement("table-write", "the table layout's writing with vectors at hand, against a raw COPY", run)
