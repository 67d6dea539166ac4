"""How strict the gates of a switch are, and which of them are skipped."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from psycopg import sql

from pgvmig.errors import UsageError

# A live table always has rows whose new text is not embedded yet; younger ones than this do not hold up a switch.
MAX_STALE_AGE = timedelta(seconds=60)
# What `pgvmig verify` found a day ago was found about other vectors.
MAX_EVIDENCE_AGE = timedelta(hours=24)
# What a standby's readers hold up there, everybody waits for.
MAX_READER_AGE = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How strict a switch is: how old stale rows, evidence and readers' transactions may be, what to skip and why."""

    max_stale_age: timedelta = MAX_STALE_AGE
    max_evidence_age: timedelta = MAX_EVIDENCE_AGE
    max_reader_age: timedelta = MAX_READER_AGE
    skip: list[str] = field(default_factory=list)
    reason: str | None = None

    @classmethod
    def forced(cls, force: str | None) -> Terms:
        """Read an operation's `force="coverage: why"`; several gates as `coverage,index: why`.

        Raises UsageError without a reason.
        """
        if force is None:
            return cls()
        names, _, reason = force.partition(":")
        if not reason.strip():
            raise UsageError(
                f"force is {force!r}",
                hazard="A skipped gate is kept with its reason, for whoever looks into it later",
                next_step="write force='gate: why', such as force='coverage: 12 rows of a closed tenant'",
            )
        return cls(skip=[name.strip() for name in names.split(",")], reason=reason.strip())

    def literals(self) -> dict[str, sql.Literal]:
        """Return the terms as SQL literals, those that the database asks for."""
        return {
            "max_stale_age": sql.Literal(self.max_stale_age),
            "max_evidence_age": sql.Literal(self.max_evidence_age),
            "skip": sql.Literal(self.skip),
            "reason": sql.Literal(self.reason),
        }
