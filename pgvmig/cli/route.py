"""`pgvmig route`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import click

from pgvmig import routing
from pgvmig.catalog import versions
from pgvmig.cli import output, switching
from pgvmig.errors import UsageError
from pgvmig.routing import Route
from pgvmig.runner import ConnectionRunner

_KEYS_SHOWN = 10


class Percent(click.ParamType[Decimal]):
    """A share such as 10, 0.5 or 10%."""

    name = "percent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        """Read the text exactly: 0.1 is no binary fraction."""
        try:
            return Decimal(str(value).removesuffix("%").strip())
        except InvalidOperation:
            self.fail(f"{value!r} is not a share; write 10, or 0.5", param, ctx)


@click.command("route")
@click.argument("target")
@click.option("--to", "version", metavar="VERSION", help="The version that is to serve them.")
@click.option("--percent", type=Percent(), help="Its share of the keys, from 0 to 99.99.")
@click.option("--key", "keys", metavar="KEY", multiple=True, help="A key that it serves in any case. May be repeated.")
@click.option("--remove-key", "removed", metavar="KEY", multiple=True, help="Not that key any more. May be repeated.")
@click.option("--off", is_flag=True, help="Everything back to the active version, at once and without a gate.")
@switching.options
@output.options
def command(
    target: str,
    version: str | None,
    percent: Decimal | None,
    keys: tuple[str, ...],
    removed: tuple[str, ...],
    off: bool,
    max_stale_age: timedelta,
    max_evidence_age: timedelta,
    skip: tuple[str, ...],
    reason: str | None,
    dsn: str | None,
    as_json: bool,
) -> None:
    """Show who serves TARGET's keys, or let VERSION serve a share of them beside the active version.

    Services ask pgvmig.route('documents', key) for the version and search its view (in Python: search(key=...)). A key
    that a share serves is served by every greater one. More than now needs the gates of a cutover, less never does. 100
    percent is the cutover; it and a rollback end the rollout.

    \b
    JSON: {"target": "documents", "active": "v1", "candidate": "v2", "percent": 10.0, "keys": ["alice"],
           "changed_at": "...", "served": {"v1": 903, "v2": 97}}; candidate null: there is none; served: searches in
           the last hour, as services report them (record_outcome, metric served)
    With a change also: {"change": {"changed": true, "version", "percent", "was", "keys", "added", "removed",
           "skipped", "gates"}}
    """
    _check_usage(version, percent, keys, removed, off=off)
    terms = switching.terms(max_stale_age, max_evidence_age, skip, reason)
    change: dict[str, Any] | None = None
    with output.connect(dsn) as conn:
        found = versions.find(conn, target, version) if version else versions.select(conn, target)[0]
        run, where = ConnectionRunner(conn, "cli"), switching.address(found)
        if off:
            change = routing.unroute(run, where, reason, only=version is not None)
        elif version:
            change = routing.set_route(run, where, percent, add_keys=keys, remove_keys=removed, terms=terms)
        route, served = routing.route_of(conn, found), routing.served(conn, found)
    if as_json:
        output.print_json(asdict(route) | {"served": served} | ({"change": change} if change is not None else {}))
    else:
        if change is not None and not change["changed"]:
            output.say("Nothing to change.")
        show(route, served)


def _check_usage(
    version: str | None, percent: Decimal | None, keys: tuple[str, ...], removed: tuple[str, ...], *, off: bool
) -> None:
    wanted = percent is not None or keys or removed
    if off and wanted:
        raise UsageError("--off and a share at once", next_step="give --off alone, or --to VERSION --percent N")
    if wanted and version is None:
        raise UsageError("a share of which version?", next_step="add --to VERSION")
    if version is not None and not (wanted or off):
        raise UsageError(f"what is {version} to serve?", next_step="add --percent 10, or --key KEY")


def show(route: Route, served: dict[str, int]) -> None:
    """Print who serves the keys, and who really did."""
    for line in described(route, served):
        output.say(line)


def described(route: Route, served: dict[str, int]) -> list[str]:
    """Return lines for people: what is configured, what services report, and what is next."""
    if route.active is None:
        return [f"Route {route.target}: no version is active"]
    if route.candidate is None:
        return [f"Route {route.target}: {route.active} serves every key", *_served(served)]
    more = f" and {_named(route.keys)}" if route.keys else ""
    share = f"{route.percent:g} % of the keys{more}"
    return [
        f"Route {route.target}: {route.candidate} serves {share}, {route.active} the others",
        *_served(served),
        f"  the way back: pgvmig route {route.target} --off",
    ]


def _named(keys: list[str]) -> str:
    shown = ", ".join(keys[:_KEYS_SHOWN])
    return shown if len(keys) <= _KEYS_SHOWN else f"{shown} and {len(keys) - _KEYS_SHOWN:,} more keys"


def _served(served: dict[str, int]) -> list[str]:
    total = sum(served.values())
    if not total:
        return []
    shares = ", ".join(f"{version} {searches / total:.1%}" for version, searches in served.items())
    return [f"  served in the last hour: {shares} of {total:,} searches"]
