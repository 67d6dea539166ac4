"""`pgvmig failed list|retry|accept`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import click

from pgvmig.catalog import outcomes, versions
from pgvmig.cli import output
from pgvmig.lifecycle import State

_SHOWN = 100


@click.group("failed")
def command() -> None:
    """Rows that the provider refused. They hold up the cutover until they are retried or accepted."""


def _chosen(decorated: Callable[..., Any]) -> Callable[..., Any]:
    """Add what names rows."""
    key = click.option(
        "--key",
        "keys",
        multiple=True,
        metavar="KEY",
        help="Only this row; may be repeated. A key of several columns: its parts with commas between.",
    )
    return click.argument("target")(click.argument("version")(key(decorated)))


@command.command("list")
@click.argument("target", required=False)
@click.argument("version", required=False)
@output.options
def show(target: str | None, version: str | None, dsn: str | None, as_json: bool) -> None:
    """Show failed rows: the provider's error, how often it was tried, and whether somebody accepted it.

    \b
    JSON: {"failed": [{"target", "version", "key": ["17"], "error", "attempts", "recorded_at", "accepted_at",
           "accepted_by", "accept_reason"}]}
    """
    with output.connect(dsn) as conn:
        found = [
            {"target": v.label, "version": v.version, **asdict(row)}
            for v in versions.select(conn, target, version)
            if v.state != State.RETIRED
            for row in outcomes.failed(conn, v)
        ]
    if as_json:
        output.print_json({"failed": found})
    elif not found:
        output.say("No row has failed.")
    else:
        _show(found)


@command.command("retry")
@_chosen
@output.options
def retry(target: str, version: str, keys: tuple[str, ...], dsn: str | None, as_json: bool) -> None:
    """Queue failed rows of TARGET VERSION again: all that nobody accepted, or those named.

    \b
    JSON: {"queued": 3}
    """
    with output.connect(dsn) as conn:
        found = versions.find(conn, target, version)
        count = outcomes.retry(conn, found, _parse(keys))
    if as_json:
        output.print_json({"queued": count})
    else:
        output.say(f"{count:,} rows of {found.name} are queued again. Next: pgvmig backfill {found.name}")


@command.command("accept")
@_chosen
@click.option("--reason", required=True, help="Why they may stay without a vector; kept with each row.")
@output.options
def accept(target: str, version: str, keys: tuple[str, ...], reason: str, dsn: str | None, as_json: bool) -> None:
    """Accept that failed rows of TARGET VERSION have no vector of their present text: all of them, or those named.

    No search finds them, or only by the vector of an older text. It holds until their text changes.

    \b
    JSON: {"accepted": 3}
    """
    with output.connect(dsn) as conn:
        found = versions.find(conn, target, version)
        count = outcomes.accept(conn, found, reason, _parse(keys))
    if as_json:
        output.print_json({"accepted": count})
    else:
        output.say(f"{count:,} rows of {found.name} are accepted without a vector.")


def _parse(keys: tuple[str, ...]) -> list[tuple[str, ...]] | None:
    return [tuple(part.strip() for part in key.split(",")) for key in keys] or None


def _show(found: list[dict[str, Any]]) -> None:
    rows = [
        (f"{f['target']} {f['version']}", ", ".join(f["key"]), f["attempts"], f["accept_reason"], f["error"])
        for f in found[:_SHOWN]
    ]
    output.table("Failed rows", ("version", "key", "tried", "accepted, because", "error"), rows)
    if len(found) > _SHOWN:
        output.say(f"... and {len(found) - _SHOWN:,} more; --json has them all")
    open_ones = [f for f in found if f["accepted_at"] is None]
    if open_ones:
        name = f"{open_ones[0]['target']} {open_ones[0]['version']}"
        output.say(f"Next: pgvmig failed retry {name}, or pgvmig failed accept {name} --reason '...'")
