"""`pgvmig failed list|retry|accept`."""

from __future__ import annotations

import click

from pgvmig.catalog import outcomes, versions
from pgvmig.cli import output


@click.group("failed", invoke_without_command=False)
def command() -> None:
    """Rows that the provider refused. They hold up the cutover until they are retried or accepted."""
