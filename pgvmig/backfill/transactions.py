"""How the worker's transactions are: short, under settings of their own, tried again when somebody is in the way."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, TypeVar

import psycopg
from psycopg import errors as pg

from pgvmig import sql as files

T = TypeVar("T")

# What passes by itself: a table lock of somebody's DDL, a conflict with another transaction, a slow moment.
PASSING = (pg.LockNotAvailable, pg.DeadlockDetected, pg.SerializationFailure, pg.QueryCanceled)
_ATTEMPTS = 20


@contextmanager
def transaction(conn: psycopg.Connection[Any], *, one_snapshot: bool = False) -> Iterator[None]:
    """Run the block in a transaction; with `one_snapshot` it only reads, and all its statements see the same rows."""
    with conn.transaction():
        if one_snapshot:
            conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        conn.execute(files.query("backfill", "transaction_settings"))
        yield


def patiently(action: Callable[[], T], stop: Callable[[], bool]) -> T:
    """Return what the action returns, which is one whole transaction; it is tried again after what passes by itself."""
    for attempt in count(1):
        try:
            return action()
        except PASSING:
            if attempt == _ATTEMPTS or stop():
                raise
            time.sleep(random.uniform(0.05, 0.5))  # noqa: S311  # so that two do not meet again
    raise AssertionError
