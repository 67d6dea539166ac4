"""States of a version and the steps between them. Pure; the control schema enforces the same table.

`added → backfilling → ready → active → retained → retired`, and the ways back. A test asks the database for every
pair of states and compares.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where a version stands."""

    ADDED = "added"
    BACKFILLING = "backfilling"
    READY = "ready"
    ACTIVE = "active"
    RETAINED = "retained"
    RETIRED = "retired"


TRANSITIONS: frozenset[tuple[State, State]] = frozenset(
    {
        (State.ADDED, State.BACKFILLING),
        (State.ADDED, State.READY),  # nothing to embed
        (State.BACKFILLING, State.READY),
        (State.READY, State.BACKFILLING),  # work came back: failed rows retried, a restored table
        (State.READY, State.ACTIVE),  # cut over
        (State.ACTIVE, State.READY),  # rolled back, and no version was active before
        (State.ACTIVE, State.RETAINED),  # another version was cut over to, or rolled back to
        (State.RETAINED, State.ACTIVE),  # rolled back to, or cut over again
        (State.ADDED, State.RETIRED),  # given up
        (State.BACKFILLING, State.RETIRED),
        (State.READY, State.RETIRED),
        (State.RETAINED, State.RETIRED),
        (State.RETIRED, State.ADDED),  # the downgrade of a retire: empty again, to be backfilled
    }
)

# How a version may begin: empty, or adopted with the vectors that the table already has.
INITIAL: frozenset[State] = frozenset({State.ADDED, State.ACTIVE})

# Versions whose vectors must follow the text.
CAPTURED: frozenset[State] = frozenset({State.ADDED, State.BACKFILLING, State.READY, State.ACTIVE, State.RETAINED})


def is_legal(before: State | None, after: State) -> bool:
    """Whether a version may go from `before` (None: it is new) to `after`."""
    if before is None:
        return after in INITIAL
    return before == after or (before, after) in TRANSITIONS
