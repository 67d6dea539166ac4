"""Leases: who works on which pages of a table, on which rows of the stale log, and until when.

Every claim is one short transaction that holds the version's row of `pgvmig.backfill`, so claims of one version come
one after the other. Time is the database's, so that workers on machines with other clocks agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeAlias
from uuid import UUID

import psycopg
from psycopg import sql

from pgvmig import sql as files
from pgvmig.backfill import faults
from pgvmig.backfill.transactions import transaction
from pgvmig.catalog.keys import Key, Keys, objects_of
from pgvmig.catalog.versions import Version


@dataclass(frozen=True, slots=True)
class Range:
    """A lease of the pages from `first` to before `last`. An empty one is the look whether the walk is at its end."""

    lease_id: int
    first: int
    last: int

    @property
    def closing(self) -> bool:
        """Whether it stands for the closing look over the whole table."""
        return self.first == self.last


@dataclass(frozen=True, slots=True)
class Entries:
    """A lease of rows in the stale log: their keys, each with the entries that were visible."""

    lease_id: int
    keys: dict[Key, list[int]] = field(hash=False)


Claim: TypeAlias = Range | Entries


@dataclass(frozen=True, slots=True)
class Position:
    """Where the walk is: its pass, how many of so many pages have been handed out, and whether it is at its end."""

    number: int = 0
    next_block: int = 0
    end_block: int = 0
    walked: bool = False


class VersionGoneError(Exception):
    """The version was retired or dropped: nothing is left to do for it."""


class TableChangedError(Exception):
    """The table was renamed, retyped or keyed anew: statements that were written before may mean something else now."""


class Claims:
    """The leases of one run on one version.

    Whatever claims or writes raises TableChangedError when the table is not the one that the version was read with.
    """

    def __init__(self, conn: psycopg.Connection[Any], version: Version, run_id: UUID, lease: timedelta) -> None:
        self.position = Position()
        self._conn = conn
        self._keys = Keys.of(version)
        self._shape = version.shape
        self._given = {"version_id": version.version_id, "run_id": run_id, "lease": lease}
        parts = self._keys.parts() | objects_of(version)
        same = self._keys.same
        self._has_stale = files.query("backfill", "has_stale", stale=parts["stale"])
        self._claim_stale = files.query(
            "backfill", "claim_stale", **parts, busy_key=same("b", "q"), chosen_key=same("c", "q")
        )
        self._forget_leases = files.query("backfill", "forget_leases", **parts)
        self._forget_orphans = files.query("backfill", "forget_orphans", **parts, same_key=same("o", "c"))

    def pages(self, blocks: int, end: Callable[[], int]) -> Range | None:
        """Lease the next range of at most `blocks` pages; None when there is none at the moment.

        What another worker left behind comes first. `end` says how many pages the table has. Raises VersionGoneError.
        """
        with self._turn():
            claim = None if self.position.walked else self._left_behind() or self._next_pages(blocks, end)
        if claim is not None:
            faults.reach("after-claim")
        return claim

    def stale(self, limit: int) -> Entries | None:
        """Lease the rows that have waited longest in the log, None when it has none that are free.

        Raises VersionGoneError.
        """
        if not self._one(self._has_stale):
            return None
        with self._turn():
            self.tidy()
            rows = self._conn.execute(self._claim_stale, {**self._given, "limit": limit}).fetchall()
            if not rows:
                return None
            keys = {self._keys.key(row): row[-1] for row in rows}
            firsts = [entries[0] for entries in keys.values()]
            claim = Entries(self._one(_query("lease_entries"), entries=firsts), keys)
        faults.reach("after-claim")
        return claim

    def there(self) -> bool:
        """Whether the version still is one that workers write."""
        return self._conn.execute(_query("lock_backfill"), self._given).fetchone() is not None

    def changed(self) -> bool:
        """Whether the table is not the one that the version was read with."""
        row = self._conn.execute(_query("lock_backfill"), self._given).fetchone()
        return row is not None and row[-1] != self._shape

    def tidy(self) -> None:
        """Remove leases of the log that hold nothing any more."""
        self._conn.execute(self._forget_leases, self._given)

    def extend(self, claim: Claim) -> bool:
        """Renew a lease; return whether it still was ours."""
        shape = self._one(_query("extend_lease"), lease_id=claim.lease_id)
        if shape is not None:
            self._require_shape(shape)
        return shape is not None

    def release(self, claim: Claim, found: int = 0) -> None:
        """End a lease whose rows were seen to; of pages, say how many rows they had for us."""
        with transaction(self._conn):
            if isinstance(claim, Range):
                self._run("finish_range", lease_id=claim.lease_id, found=found)
            else:
                self._run("release_entries", lease_id=claim.lease_id)

    def give_back(self, claim: Claim) -> None:
        """End a lease whose rows were not seen to: the next worker takes it at once."""
        with transaction(self._conn):
            self._run("give_back_range" if isinstance(claim, Range) else "release_entries", lease_id=claim.lease_id)

    def end_walk(self, claim: Range, end: int, *, missing: bool, partitions: list[str]) -> None:
        """End the closing look: the walk is at its end, or with rows still missing another pass begins.

        `partitions` are those that there were before the look.
        """
        with self._turn():
            if not self.extend(claim):
                return
            self.release(claim)
            if missing:
                self._run("begin_pass", end_block=end)
            else:
                self._run("finish_walk", partitions=partitions)
                self._conn.execute(self._forget_orphans, self._given)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Open a transaction in which nobody else claims, with `position` up to date."""
        with transaction(self._conn):
            row = self._conn.execute(_query("lock_backfill"), self._given).fetchone()
            if row is None:
                raise VersionGoneError
            self.position = Position(*row[:-1])
            self._require_shape(row[-1])
            yield

    def _require_shape(self, shape: str) -> None:
        if shape != self._shape:
            raise TableChangedError(f"{self._shape} became {shape}")

    def _left_behind(self) -> Range | None:
        row = self._conn.execute(_query("take_over_range"), self._given).fetchone()
        return Range(*row) if row else None

    def _next_pages(self, blocks: int, end: Callable[[], int]) -> Range | None:
        if self.position.number == 0 and (count := end()) > 0:
            self._run("begin_pass", end_block=count)
            self.position = Position(1, 0, count)
        first, past_end = self.position.next_block, self.position.end_block
        if first < past_end:
            last = min(first + blocks, past_end)
            self._run("advance", next_block=last)
            return self._lease_range(first, last)
        if self._one(_query("has_ranges")):
            return None  # others are still at it; what they leave behind will be taken over
        return self._lease_range(past_end, past_end)

    def _lease_range(self, first: int, last: int) -> Range:
        return Range(self._one(_query("lease_range"), first=first, last=last), first, last)

    def _run(self, name: str, **more: Any) -> None:
        self._conn.execute(_query(name), {**self._given, **more})

    def _one(self, statement: sql.Composed, **more: Any) -> Any:
        row = self._conn.execute(statement, {**self._given, **more}).fetchone()
        return row[0] if row else None


def release_all(conn: psycopg.Connection[Any], run_id: UUID) -> None:
    """End every lease of a run: of rows in the log altogether, of pages so that the next worker takes them."""
    with transaction(conn):
        for name in ("give_back_ranges", "release_all_entries"):
            conn.execute(_query(name), {"run_id": run_id})


def _query(name: str) -> sql.Composed:
    return files.query("backfill", name)
