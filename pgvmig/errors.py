"""Every error that pgvmig raises. Knows nothing of the rest of the package.

An error says what was found, why that is a hazard and the next command; it carries the same as attributes, so
that a program can decide without parsing text. The command line prints them, the library only raises them.
"""

from __future__ import annotations

from typing import Any, ClassVar


class PgvmigError(Exception):
    """Base of all errors.

    Attributes: `found` (what was found, a sentence without its full stop), `hazard` (why it matters, or None),
    `next_step` (the next command or change, or None), `data` (figures and names by key).
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, found: str, *, hazard: str | None = None, next_step: str | None = None, **data: Any) -> None:
        self.found = found
        self.hazard = hazard
        self.next_step = next_step
        self.data = data
        super().__init__(found)

    def __str__(self) -> str:
        parts = [f"{self.found}."] if self.next_step or self.hazard else [self.found]
        if self.hazard:
            parts.append(f"{self.hazard}.")
        if self.next_step:
            parts.append(f"Next: {self.next_step}")
        return " ".join(parts)


class UsageError(PgvmigError):
    """The command or the call itself is wrong; nothing was looked at."""

    exit_code = 2


class ConfigError(UsageError):
    """A setting is missing or unusable: a DSN, a provider, an API key's variable."""


class ContractError(UsageError):
    """A contract that cannot be: unknown key, `latest` as a version, dimensions that no index takes."""


class InputExpressionError(ContractError):
    """The input expression cannot be trusted to give the same text twice, or does not run."""


class NotFoundError(PgvmigError):
    """The table, slot or version that was named is not there."""


class DatabaseError(PgvmigError):
    """PostgreSQL refused or is not reachable."""


class HiddenRowsError(DatabaseError):
    """Row-level security would hide rows from us; what is hidden would look as if it were done."""


class SchemaVersionError(PgvmigError):
    """The control schema is missing, or older or newer than this toolkit."""


class IllegalTransitionError(PgvmigError):
    """The lifecycle has no such step."""


class ConflictError(PgvmigError):
    """What should be created exists and is something else."""


class DestructionRefusedError(PgvmigError):
    """The step would destroy vectors and nobody said that it may."""


class TooMightyError(PgvmigError):
    """Operators would be lent a superuser's rights; nobody said that they may."""


class PublishedTableError(PgvmigError):
    """Subscribers would be sent what they do not have, and stop; nobody said that they are prepared."""


class LockNotAvailableError(PgvmigError):
    """A lock was not to be had within the retries; nobody was killed and nothing was changed."""


class BlockedError(PgvmigError):
    """Something says: not now. Exit code 4."""

    exit_code = 4


class GateError(BlockedError):
    """A gate did not pass."""


class TooEarlyError(BlockedError):
    """The backfill has not got far enough yet for what was asked."""


class SignalError(BlockedError):
    """A pacing signal stops the worker, or its state is unknown, which stops it as well."""


class ProviderError(PgvmigError):
    """The embedding provider did not do its part."""


class ProviderUnavailableError(ProviderError):
    """The provider is down, slow or rate-limiting for longer than the retries last; the batch is untouched."""


class InputRejectedError(ProviderError):
    """The provider refuses this very batch; splitting it finds the text that it refuses."""


class AnswerRejectedError(ProviderError):
    """The provider answered, and the answer cannot be trusted: count, dimensions, NaN, zero vector, norm."""


class StoppedError(PgvmigError):
    """Somebody asked to stop (SIGTERM, the time limit) in the middle of a wait; the work is left. Exit code 3."""

    exit_code = 3


class SpaceMismatchError(PgvmigError):
    """A query embedded for one version was about to rank another version's vectors (SQLSTATE PV001)."""
