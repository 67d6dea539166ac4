"""The column layout's writing with vectors at hand: page-striped batches against batches in key order.

A new version of a row that finds no room on its page goes into every index of the table again, the old model's HNSW
graph included. Same vectors, same server, by turns; the worker's own code, one thread.
"""

from __future__ import annotations

import time
from collections import defaultdict

import psycopg

from bench import provider, worker
from bench.figures import TIMES, Figure, Measurement, Target, ratios
from bench.lanes import Clock, lane_of
from bench.stage import Stage
from bench.tables import Documents
from pgvmig.catalog.connection import connect

_DIMENSIONS = 384
_ROWS = 10_000
_WAYS = {"page-striped": True, "key order": False}
# PostgreSQL prunes a page that has less free than the fillfactor wants, and by default less than a tenth.
_LOOSE = "page-striped, fillfactor 80 set beforehand"
_SHARES = {"HOT": "%", "WAL": "bytes/row", "heap growth": "%", "rate": "rows/s"}


def run(stage: Stage) -> list[Figure]:
    """Fill v2 both ways, on rows of equal length and on rows of realistic lengths."""
    figures: list[Figure] = []
    for texts in ("uniform", "realistic"):
        documents = Documents(stage.pick(_ROWS, 500), texts=texts, dimensions=_DIMENSIONS)
        samples: dict[tuple[str, str], list[float]] = defaultdict(list)
        for number in stage.rounds:
            for way, striped in _WAYS.items():
                with stage.database(documents) as dsn:
                    for what, value in _fill(dsn, documents.rows, striped=striped).items():
                        samples[way, what].append(value)
                stage.say(f"{texts} texts, round {number + 1}, {way}: {samples[way, 'rate'][-1]:,.0f} rows/s")
        with stage.database(documents) as dsn:
            for what, value in _fill(dsn, documents.rows, striped=True, fillfactor=80).items():
                samples[_LOOSE, what].append(value)
        figures += _figures(texts, samples)
    return figures


def _figures(texts: str, samples: dict[tuple[str, str], list[float]]) -> list[Figure]:
    targets = {("page-striped", "HOT"): Target(at_least=80), ("page-striped", "heap growth"): Target(at_most=20)}
    single = [
        Figure(f"{texts} texts, {way}: {what}", unit, tuple(samples[way, what]), targets.get((way, what)))
        for way in _WAYS
        for what, unit in _SHARES.items()
    ]
    single += [
        Figure(f"{texts} texts, {_LOOSE}: {what}", _SHARES[what], tuple(samples[_LOOSE, what]))
        for what in ("HOT", "heap growth")
    ]
    faster = ratios(samples["page-striped", "rate"], samples["key order", "rate"])
    return [*single, Figure(f"{texts} texts, page-striped over key order", TIMES, faster, Target(at_least=4))]


def _fill(dsn: str, rows: int, *, striped: bool, fillfactor: int | None = None) -> dict[str, float]:
    worker.prepare(dsn, dimensions=_DIMENSIONS, adopted=_DIMENSIONS)
    with connect(dsn) as conn:
        if fillfactor is not None:
            conn.execute(f"ALTER TABLE public.documents SET (fillfactor = {fillfactor})")
        heap, wal = _sizes(conn)
        lane = lane_of(conn, dsn, batch=64, striped=striped)
        began = time.perf_counter()
        Clock(lane, provider.vectors(_DIMENSIONS)).run()
        seconds = time.perf_counter() - began
        grown, written = _sizes(conn)
        conn.execute("SELECT pg_stat_force_next_flush()")
        updated, hot = conn.execute(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'documents'"
        ).fetchone() or (0, 0)
    if lane.counters.written != rows:
        raise AssertionError(f"{lane.counters.written:,} of {rows:,} rows were written")
    return {
        "HOT": 100 * hot / updated,
        "WAL": (written - wal) / rows,
        "heap growth": 100 * (grown / heap - 1),
        "rate": rows / seconds,
    }


def _sizes(conn: psycopg.Connection[tuple[int, int]]) -> tuple[int, int]:
    statement = (
        "SELECT pg_relation_size('public.documents'), pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint"
    )
    return conn.execute(statement).fetchone() or (0, 0)


MEASUREMENT = Measurement("column-hot", "the column layout's writing, page-striped against key order", run)
