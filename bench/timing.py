"""How long embedding took, seen from outside, so that the same clock holds for pgvmig and for its peers."""

from __future__ import annotations

import psycopg
from psycopg import sql

from bench.provider import Provider


def rows_per_second(dsn: str, relation: sql.Identifier, vector: str, provider: Provider) -> float:
    """Return rows with a vector over the seconds from the first request's arrival to the last such row's commit.

    Starting a process and looking over the table in the end are left out. Needs track_commit_timestamp.
    """
    statement = sql.SQL(
        "SELECT count(*), extract(epoch FROM max(pg_xact_commit_timestamp(xmin)))::float8 FROM {} WHERE {} IS NOT NULL"
    ).format(relation, sql.Identifier(vector))
    with psycopg.connect(dsn) as conn:
        rows, last = conn.execute(statement).fetchone() or (0, 0.0)
    return float(rows / (last - provider.counts()["first"]))
