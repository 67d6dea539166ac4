"""`pgvmig standby add|remove|none|list`."""

from __future__ import annotations

from dataclasses import asdict

import click

from pgvmig.catalog import standbys
from pgvmig.cli import output


@click.group("standby")
def command() -> None:
    """Declare the standbys whose replication lag the worker respects.

    They are declared and never inferred: a standby that is gone has no row in pg_stat_replication, and its lag would
    read as none at all. Until standbys, or `none`, are declared the worker writes nothing.
    """


@command.command("add")
@click.argument("name")
@click.option("--standby-dsn", metavar="DSN", help="Ask the standby itself as well. Without a password in it.")
@output.options
def add(name: str, standby_dsn: str | None, dsn: str | None, as_json: bool) -> None:
    """Declare the standby NAME, its application_name in pg_stat_replication.

    \b
    JSON: as `pgvmig standby list`, for NAME
    """
    with output.connect(dsn) as conn:
        found = standbys.add(conn, name, standby_dsn)
    _show(found, as_json=as_json)
    if not as_json and not any(standby.connected for standby in found):
        output.say(f"{name} is not connected now: the worker waits until it is.")


@command.command("remove")
@click.argument("name")
@output.options
def remove(name: str, dsn: str | None, as_json: bool) -> None:
    """Take the declaration of NAME back.

    \b
    JSON: as `pgvmig standby list`
    """
    with output.connect(dsn) as conn:
        standbys.remove(conn, name)
        _show(standbys.all_standbys(conn), as_json=as_json)


@command.command("none")
@output.options
def none(dsn: str | None, as_json: bool) -> None:
    """Declare that this cluster has no standbys.

    \b
    JSON: as `pgvmig standby list`; whatever is in it contradicts the declaration
    """
    with output.connect(dsn) as conn:
        streaming = standbys.none(conn)
    _show(streaming, as_json=as_json)
    if as_json:
        return
    output.say("Declared: no standbys.")
    if streaming:
        output.say(f"But {streaming[0].name} is connected now. Next: pgvmig standby add {streaming[0].name}")


@command.command("list")
@output.options
def show(dsn: str | None, as_json: bool) -> None:
    """Show what is declared and what is connected.

    \b
    JSON: {"standbys": [{"name", "declared", "state", "replay_lag", "lag_bytes", "slot_active", ...}]}
    """
    with output.connect(dsn) as conn:
        found = standbys.all_standbys(conn)
        declared_none = standbys.is_none(conn)
    _show(found, as_json=as_json)
    if as_json or any(standby.declared for standby in found):
        return
    output.say(
        "Declared: no standbys."
        if declared_none
        else "Nothing is declared. Next: pgvmig standby add NAME, or pgvmig standby none"
    )


def _show(found: list[standbys.Standby], *, as_json: bool) -> None:
    if as_json:
        output.print_json({"standbys": [asdict(standby) for standby in found]})
    elif found:
        columns = ("name", "declared", "connected", "state", "replay lag", "bytes behind")
        output.table(
            "Standbys",
            columns,
            [(s.name, s.declared, s.connected, s.state, s.replay_lag, s.lag_bytes) for s in found],
        )
