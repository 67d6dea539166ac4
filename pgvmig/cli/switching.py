"""What `cutover` and `rollback` share: options, the call, and how the outcome is told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import click

from pgvmig.address import Address, Table
from pgvmig.catalog.versions import Version
from pgvmig.cli import output
from pgvmig.errors import UsageError
from pgvmig.terms import MAX_EVIDENCE_AGE, MAX_STALE_AGE, Terms


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a switch."""
    for option in (
        click.option("--reason", help="Why; kept with the event. Needed with --skip."),
        click.option("--skip", metavar="GATE", multiple=True, help="Switch though this gate fails. May be repeated."),
        click.option(
            "--max-evidence-age",
            type=output.DURATION,
            default=f"{MAX_EVIDENCE_AGE.total_seconds() / 3600:g}h",
            show_default=True,
            help="How old what `pgvmig verify` found may be.",
        ),
        click.option(
            "--max-stale-age",
            type=output.DURATION,
            default=f"{MAX_STALE_AGE.total_seconds():g}s",
            show_default=True,
            help="Rows whose text changed less than this ago do not hold up the switch: a live table always has some.",
        ),
    ):
        command = option(command)
    return command


def terms(max_stale_age: timedelta, max_evidence_age: timedelta, skip: tuple[str, ...], reason: str | None) -> Terms:
    """Return the switch's terms. Raises UsageError for a skipped gate without a reason."""
    if skip and not reason:
        raise UsageError(
            f"gate {', '.join(skip)} is to be skipped and no reason is given",
            hazard="Whoever looks into the wrong answers later must find out why",
            next_step="add --reason '...'",
        )
    return Terms(max_stale_age=max_stale_age, max_evidence_age=max_evidence_age, skip=list(skip), reason=reason)


def address(version: Version) -> Address:
    """Return the address of a version from the catalog."""
    return Address(table=Table(version.table_schema, version.table_name), version=version.version, slot=version.slot)
