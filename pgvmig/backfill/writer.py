"""Write a batch: one short transaction that guards the rows, records their outcomes and writes the vectors.

It waits for no application. What somebody else is at is left for later, what changed in the meantime is left to the
log. How rows are guarded and vectors written is the layout's part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import psycopg
from psycopg import errors as pg

from pgvmig import sql as files
from pgvmig.backfill import faults
from pgvmig.backfill.batches import Answer, Batch, Written, sum_known
from pgvmig.backfill.claims import Claims
from pgvmig.backfill.runs import RunLog
from pgvmig.backfill.transactions import transaction
from pgvmig.catalog.keys import Key, Keys, objects_of
from pgvmig.catalog.versions import Version
from pgvmig.layouts.layout import Layout


class _SuppressedError(psycopg.Error):
    """A BEFORE trigger of the user's returned NULL for a row."""


# What the user's own constraints and triggers do about a row, as against trouble of the server's.
_ABOUT_A_ROW = (psycopg.IntegrityError, psycopg.DataError, pg.RaiseException, _SuppressedError)


class Writer:
    """Writes the batches of one version."""

    def __init__(
        self, conn: psycopg.Connection[Any], version: Version, layout: Layout, claims: Claims, log: RunLog
    ) -> None:
        self._conn = conn
        self._version = version
        self._layout = layout
        self._claims = claims
        self._log = log
        self._keys = Keys.of(version)
        parts = self._keys.parts() | objects_of(version)
        self._queries = {name: files.query("backfill", name, **parts) for name in _QUERIES}

    def write(self, batch: Batch) -> Written:
        """Write what can be written. A row that the database itself refuses is found and recorded as failed."""
        try:
            return self._transaction(batch)
        except _ABOUT_A_ROW as error:
            if not batch.answers:
                raise
            return self._isolate(batch, error)

    def hand_over(self, keys: Sequence[Key]) -> None:
        """Queue rows of the walk that stay locked: the walk may end, the log remembers them."""
        with transaction(self._conn):
            self._run("queue_rows", keys)

    def count_outrun(self, rows: int) -> None:
        """Count rows that stayed locked."""
        self._log.count_outrun(self._conn, self._version, rows)

    def _transaction(self, batch: Batch) -> Written:
        with transaction(self._conn):
            alone = bool(batch.gone or batch.done) or any(answer.kind != "vector" for answer in batch.answers)
            self._layout.begin(self._conn, alone=alone)
            written = self._write_rows(batch.answers)
            if batch.gone:
                # reads the table: before the log, as TRUNCATE and its trigger do
                self._layout.forget(self._conn, batch.gone)
            if batch.done:
                done = self._layout.settled(self._conn, list(batch.done))
                self._conn.execute(
                    self._queries["unqueue_entries"], {"entries": [e for k in done for e in batch.done[k]]}
                )
            written.still_ours = self._claims.extend(batch.claim)
            self._log.count(self._conn, self._version, written)
            faults.reach("before-commit")
        faults.reach("after-commit")
        return written

    def _write_rows(self, answers: Sequence[Answer]) -> Written:
        if not answers:
            return Written()
        rows, kinds = [answer.row for answer in answers], [answer.kind for answer in answers]
        guarded = self._layout.guard(self._conn, rows, kinds)
        ours = [answers[i] for i in guarded.ours]
        self._record([answer for answer in ours if answer.kind != "vector"])
        # last: what is queued from here on is queued because a trigger of the user's changes the text as we write
        self._write_vectors([answer for answer in ours if answer.kind == "vector"])
        done = Counter([answer.kind for answer in ours])
        return Written(
            vectors=done["vector"],
            empty=done["empty"],
            failed=done["failed"],
            changed=len(answers) - len(ours) - len(guarded.locked),
            locked=[answers[i] for i in guarded.locked],
        )

    def _write_vectors(self, answers: Sequence[Answer]) -> None:
        if not answers:
            return
        rows, vectors = [answer.row for answer in answers], [answer.vector for answer in answers]
        if self._layout.write(self._conn, rows, vectors) < len(rows):
            raise _SuppressedError("a trigger suppressed the update")

    def _record(self, answers: Sequence[Answer]) -> None:
        if answers:
            self._run(
                "record_outcomes",
                [answer.row.key for answer in answers],
                kinds=[answer.kind for answer in answers],
                hashes=[answer.row.source_hash for answer in answers],
                errors=[answer.error for answer in answers],
            )

    def _isolate(self, batch: Batch, error: psycopg.Error) -> Written:
        """Write the halves of a batch on their own; a row that is refused alone is recorded with the reason."""
        if len(batch.answers) == 1:
            (answer,) = batch.answers
            refused = Answer(answer.row, "failed", error=f"PostgreSQL refused the row: {_first_line(error)}")
            if answer.kind == "failed":
                raise error
            return self._transaction(replace(batch, answers=[refused]))
        middle = len(batch.answers) // 2
        halves = (
            replace(batch, answers=batch.answers[:middle]),
            replace(batch, answers=batch.answers[middle:], gone=[], done={}),
        )
        return _sum([self.write(half) for half in halves])

    def _run(self, name: str, keys: Sequence[Key], **more: Any) -> None:
        self._conn.execute(self._queries[name], {**self._keys.values(keys), **more})


_QUERIES = ("unqueue_entries", "queue_rows", "record_outcomes")


def _sum(parts: Sequence[Written]) -> Written:
    return Written(
        vectors=sum(part.vectors for part in parts),
        empty=sum(part.empty for part in parts),
        failed=sum(part.failed for part in parts),
        changed=sum(part.changed for part in parts),
        locked=[answer for part in parts for answer in part.locked],
        still_ours=all(part.still_ours for part in parts),
        updated=sum_known(part.updated for part in parts),
        hot=sum_known(part.hot for part in parts),
    )


def _first_line(error: psycopg.Error) -> str:
    return error.diag.message_primary or str(error).splitlines()[0]
