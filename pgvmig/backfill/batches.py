"""Batches: which rows go together, and what becomes of each of them. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pgvmig.backfill.claims import Claim, Entries
from pgvmig.catalog.keys import Key
from pgvmig.layouts.rows import Kind, Place, SourceRow


@dataclass(frozen=True, slots=True)
class Answer:
    """What a row gets: a vector, or an outcome that says why it has none."""

    row: SourceRow
    kind: Kind
    vector: Any = None
    error: str | None = None


@dataclass(slots=True)
class Batch:
    """Rows that are embedded by one request and written in one transaction.

    `to_embed` are waiting for the provider, `answers` for the writer. `gone` are keys without a row, `done` keys whose
    rows need nothing, with their entries of the log. `locked_since` and `retry_at`: rows that another transaction held
    when they were to be written, by the monotonic clock. `answer_seconds` is how long its answers took.
    """

    claim: Claim
    to_embed: list[SourceRow] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    gone: list[Key] = field(default_factory=list)
    done: dict[Key, list[int]] = field(default_factory=dict)
    locked_since: float | None = None
    retry_at: float = 0.0
    answer_seconds: float = 0.0

    @property
    def settled(self) -> bool:
        """Whether there is nothing in it to embed or to write."""
        return not (self.to_embed or self.answers or self.gone or self.done)

    @property
    def rows(self) -> list[SourceRow]:
        """The rows that have an answer."""
        return [answer.row for answer in self.answers]


@dataclass(slots=True)
class Written:
    """What became of a batch. `locked` can be written later, `changed` are rows that others changed or deleted.

    `updated` and `hot` are None where the table itself is not written; see Counters.
    """

    vectors: int = 0
    empty: int = 0
    failed: int = 0
    changed: int = 0
    locked: list[Answer] = field(default_factory=list)
    still_ours: bool = True
    updated: int | None = None
    hot: int | None = None

    @property
    def settled(self) -> int:
        """Rows that need nothing more."""
        return self.vectors + self.empty + self.failed + self.changed


def sum_known(figures: Iterable[int | None]) -> int | None:
    """Return the sum of those that are known, None when none is."""
    known = [figure for figure in figures if figure is not None]
    return sum(known) if known else None


def sort_out(claim: Claim, keys: Sequence[Key], rows: Iterable[SourceRow]) -> Batch:
    """Return the batch of the claimed keys, by what was read of them: embed, empty, gone, or nothing to do."""
    found = {row.key: row for row in rows}
    batch = Batch(claim)
    for key in keys:
        row = found.get(key)
        if row is None:
            batch.gone += [key] if isinstance(claim, Entries) else []
        elif row.fresh or row.recorded:
            batch.done |= {key: claim.keys[key]} if isinstance(claim, Entries) else {}
        elif not row.text.strip():
            batch.answers.append(Answer(row, "empty"))
        else:
            batch.to_embed.append(row)
    return batch


def stripes(places: Iterable[Place], size: int) -> list[list[Key]]:
    """Return the keys in stripes: first one row of each page, then a second of each, and so on; none over `size`.

    A batch takes one tuple a page, because the first new versions have to leave their page; once the old ones are dead
    to everybody PostgreSQL prunes the page, and the following stripes find room on it and stay HOT. The biggest row of
    a page goes first: it leaves the most room, and the others need less for their second copy. Where there are few
    pages, short stripes are put together: a request for each would cost more than the room is worth.
    """
    seen: Counter[int] = Counter()
    by_rank: dict[int, list[Key]] = defaultdict(list)
    for place in sorted(places, key=lambda place: (place.block, -place.room)):
        by_rank[seen[place.block]].append(place.key)
        seen[place.block] += 1
    batches: list[list[Key]] = []
    for stripe in by_rank.values():
        if batches and len(batches[-1]) + len(stripe) <= size:
            batches[-1] += stripe
        else:
            batches += [stripe[i : i + size] for i in range(0, len(stripe), size)]
    return batches


def in_order(places: Sequence[Place], size: int) -> list[list[Key]]:
    """Return the keys as they lie there, `size` at a time: where writing does not move rows, pages are read once."""
    return [[place.key for place in places[i : i + size]] for i in range(0, len(places), size)]
