"""Gate hashes: every vector is of its row's present text, as the database hashes it now."""

from __future__ import annotations

from pgvmig.catalog.versions import Version
from pgvmig.checks.evidence import Finding, listed, requeue
from pgvmig.checks.walk import Tally


def judge(version: Version, tally: Tally) -> Finding:
    """Say what the walk found: rows that changed past the triggers have a vector of another text, and nobody knows."""
    wrong = tally.other_text
    if wrong:
        of = "vector is" if wrong == 1 else "vectors are"
        found = (
            f"{wrong:,} of {tally.vectors:,} {of} of another text than the row has, and nobody knows: rows "
            f"{listed(tally.other_text_keys)}"
        )
    else:
        found = f"the hashes of {tally.vectors:,} texts are those that the vectors were made of"
    if tally.unhashed:
        found += f"; {tally.unhashed:,} adopted vectors came without a hash"
    return Finding(
        passed=not wrong,
        found=found,
        wanted="every vector is of its row's present text, or the row waits for the worker",
        next=_next(version) if wrong else None,
        measured={
            "vectors": tally.vectors,
            "other_text": wrong,
            "keys": tally.other_text_keys,
            "unhashed": tally.unhashed,
        },
    )


def _next(version: Version) -> str:
    return (
        f"{requeue(version)}; "
        "and find who changed rows while the triggers were off (pg_restore, session_replication_role, DISABLE TRIGGER)"
    )
