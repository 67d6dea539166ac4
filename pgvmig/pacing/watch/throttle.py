"""The limits that an operator changed in the database, which win over the worker's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pgvmig.errors import ConfigError
from pgvmig.pacing.definition import Look, Signal
from pgvmig.pacing.limits import Limits, parsed
from pgvmig.pacing.signals import Reading, Subject, ok, unknown

NAME = "throttle"


def overrides(rows: Iterable[Mapping[str, Any]], subject: Subject | None) -> dict[str, Any]:
    """Return what `Limits.changed` takes, from the rows of `pgvmig.throttle`. Raises ConfigError."""
    found: dict[str, Any] = {}
    for row in rows:
        if subject is None or (row["relation"], row["slot"]) == (subject.relation, subject.slot or row["slot"]):
            found |= parsed(row["settings"], live=True)
    return found


def _judge(look: Look) -> tuple[Reading, ...]:
    try:
        changed = overrides(look.rows, look.subject)
        Limits().changed(**changed)
    except ConfigError as error:
        # Another release may have written it: what somebody meant to limit must not go unlimited.
        return (unknown(NAME, f"pgvmig.throttle is not understood: {error.found}", error.next_step),)
    names = ", ".join(sorted(changed)) or "nothing"
    return (ok(NAME, f"{names} changed in pgvmig.throttle"),)


SIGNAL = Signal(
    name=NAME,
    meaning="limits that were changed in the database are known and understood",
    incident="somebody lowers a limit in a hurry, mistypes it, and the worker goes on as before",
    judge=_judge,
    query="throttle",
    grant="SELECT ON pgvmig.throttle",
)
