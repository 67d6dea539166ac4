"""`pgvmig roles create|show|drop`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

import click

from pgvmig.catalog import roles
from pgvmig.cli import output
from pgvmig.runner import ConnectionRunner


@click.group("roles")
def command() -> None:
    """Group roles for services, workers, whoever is on call, and whoever migrates.

    pgvmig_reader searches, pgvmig_worker backfills, pgvmig_operator cuts over and rolls back without owning anything,
    pgvmig_admin runs revisions. Make your login roles members: GRANT pgvmig_worker TO backfill. docs/security.md says
    what each may do. In a revision: op.create_pgvmig_roles().
    """


@command.command("create")
@click.option("--prefix", default=roles.PREFIX, show_default=True, help="What the four names begin with.")
@click.option("--owner", metavar="ROLE", help="Give the control schema to ROLE first: operators act with its rights.")
@click.option("--allow-superuser", is_flag=True, help="Although the control schema's owner is a superuser.")
@output.options
def create(prefix: str, owner: str | None, allow_superuser: bool, dsn: str | None, as_json: bool) -> None:
    """Create the roles that are missing, and grant what is missing. Again, any time.

    A cutover runs the functions that the input calls, which their owner may replace at any time. So operators must not
    be lent the rights of a superuser: where the control schema belongs to one this is refused, and --owner names a role
    that is a member of the tables' owners and no more.

    \b
    JSON: {"created": ["pgvmig_reader", ...], "existed": [...], "warnings": [...]}
    """
    with output.connect(dsn) as conn:
        run = ConnectionRunner(conn, "cli")
        outcome = roles.create(run, prefix, owner=owner, allow_superuser=allow_superuser)
    if as_json:
        output.print_json(outcome)
        return
    output.say(f"Created: {_listed(outcome['created'])}. There already: {_listed(outcome['existed'])}.")
    for warning in outcome["warnings"]:
        output.say(warning)


@command.command("show")
@output.options
def show(dsn: str | None, as_json: bool) -> None:
    """Show what the roles may do in this database.

    \b
    JSON: {"rights": [{"duty", "role", "privilege", "object", "columns": null | [...]}]}
    """
    with output.connect(dsn) as conn:
        found = roles.rights(ConnectionRunner(conn))
    if as_json:
        output.print_json({"rights": [asdict(right) for right in found]})
        return
    if not found:
        output.say("This database grants nothing to roles of pgvmig's. Next: pgvmig roles create")
        return
    rows = [(r.role, r.privilege, r.object, ", ".join(r.columns or [])) for r in found]
    output.table("Roles", ("role", "may", "of", "columns"), rows)


@command.command("drop")
@output.options
def drop(dsn: str | None, as_json: bool) -> None:
    """Take away what was granted in this database, and drop those roles that nothing else needs.

    A role that has members, or rights in another database, stays.

    \b
    JSON: {"dropped": ["pgvmig_reader", ...], "kept": {"pgvmig_worker": "it has members: backfill"}}
    """
    with output.connect(dsn) as conn:
        outcome = roles.drop(ConnectionRunner(conn, "cli"))
    if as_json:
        output.print_json(outcome)
        return
    output.say(f"Dropped: {_listed(outcome['dropped'])}.")
    for name, why in outcome["kept"].items():
        output.say(f"{name} stays, without rights in this database: {why}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
