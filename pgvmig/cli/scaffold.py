"""`pgvmig scaffold`, `pgvmig scaffold cutover|retire`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgvmig.catalog import versions
from pgvmig.cli import output
from pgvmig.lifecycle import State

# Alembic takes longer to import than all commands together; who runs this one imports it.
if TYPE_CHECKING:
    from pgvmig.scaffolding import env_file
    from pgvmig.scaffolding.project import Project
    from pgvmig.scaffolding.revisions import Revision

_CONFIG = click.option(
    "--config",
    "-c",
    "config_file",
    metavar="FILE",
    help="alembic.ini or pyproject.toml. [default: as Alembic: ALEMBIC_CONFIG, alembic.ini, pyproject.toml]",
)
_SECTION = click.option(
    "--name", "-n", "section", default="alembic", show_default=True, help="The section of alembic.ini, as for Alembic."
)
_HEAD = click.option("--head", "line", metavar="LINE", help="The main line, where several have a head: label or head.")
_DRY = click.option("--dry-run", is_flag=True, help="Only show what would be written.")


def _where(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that name an Alembic project and its main line."""
    for option in (_DRY, _HEAD, _SECTION, _CONFIG):
        command = option(command)
    return command


@click.group("scaffold", invoke_without_command=True)
@_where
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, see docs/cli.md.")
@click.pass_context
def command(
    ctx: click.Context, config_file: str | None, section: str, line: str | None, dry_run: bool, as_json: bool
) -> None:
    """Give an Alembic project what pgvmig needs; run it in the folder where you run `alembic`. No database is needed.

    It adds two arguments to context.configure() in env.py, and leaves the old file as env.py.bak; it writes a revision
    that installs the control schema. Where it does not understand env.py, it says what to write by hand and changes
    nothing. Run again, it does nothing.

    \b
    Revisions stand on two lines:
      main        the application's own. op.add_embedding() and the index are on
                  it, and wait for nothing. Deploys: `alembic upgrade main@head`
      embeddings  cutovers and retirements, which wait for a backfill. It begins
                  with the first cutover and depends on the main line, never the
                  other way round. When due: `alembic upgrade embeddings@head`

    \b
    With two lines, Alembic wants one to be named:
      alembic upgrade head             until the first cutover; then `main@head`
      alembic upgrade heads            both: for an empty database, as in CI,
                                       where no gate asks for anything
      alembic check                    compares a database that is at all heads:
                                       write a cutover when it is due
      alembic revision --autogenerate  with --head main@head
      alembic downgrade embeddings@-1  rolls the last cutover back
      alembic merge                    never of these two: the application would
                                       wait for the backfill again

    A main line that has a label keeps it. One that has none, and whose control schema was installed before, is named by
    its first revision: 4f1c@head. What to run is printed.

    \b
    JSON: {"changed", "dry_run", "env": {"path", "changed", "diff", "backup"}, "revision": {"message", "after", "label",
           "depends_on", "upgrade", "downgrade", "revision", "path"}, "deploy": "alembic upgrade main@head"}
    """
    if ctx.invoked_subcommand is not None:
        return
    from pgvmig.scaffolding import env_file, revisions

    project = _project(config_file, section)
    edit = env_file.plan(project.env)
    planned = revisions.control_schema(project, line)
    deploy = _deploy(project, line, planned)
    backup = edit.write() if edit.changed and not dry_run else None
    revision = planned if planned.revision or dry_run else revisions.write(project, planned)
    if as_json:
        env = {"path": str(edit.path), "changed": edit.changed, "diff": edit.diff, "backup": backup and str(backup)}
        changed = edit.changed or planned.revision is None
        found = {"changed": changed, "dry_run": dry_run, "env": env, "revision": revision.as_json()}
        output.print_json(found | {"deploy": deploy})
        return
    _tell_env(edit, backup)
    _tell_revision(planned, revision)
    output.say(f"Deploys run: {deploy}")
    if edit.without_metadata:
        output.say(
            "target_metadata in env.py is None: give it your models' metadata, or autogenerate has nothing to read."
        )
    output.say(
        f"Next: {deploy}; declare an Embedding(...) in a model, with adopt= where its vectors are there already "
        "(pgvmig adopt --check looks at them); then alembic revision --autogenerate"
    )


@command.command("cutover")
@click.argument("target")
@click.argument("version")
@_where
@output.options
def cutover(
    target: str,
    version: str,
    config_file: str | None,
    section: str,
    line: str | None,
    dry_run: bool,
    dsn: str | None,
    as_json: bool,
) -> None:
    """Write the revision that cuts over to VERSION of TARGET, on the line `embeddings`; its downgrade rolls back.

    Write it when it is due, after `pgvmig verify`: `alembic check` and autogenerate want a database that is at all
    heads. It depends on the revision that adds the version; nothing of the application's depends on it. A second time
    it only says where the revision is.

    \b
    JSON: {"changed", "dry_run", "revision": {"message", "after", "label", "depends_on", "upgrade", "downgrade",
           "revision", "path"}, "apply": "alembic upgrade embeddings@head", "deploy": "alembic upgrade main@head"}
    """
    from pgvmig.scaffolding import revisions

    project = _project(config_file, section)
    with output.connect(dsn) as conn:
        found = versions.find(conn, target, version)
        planned = revisions.cutover(project, found, line)
    _finish(project, line, planned, dry_run=dry_run, as_json=as_json)
    if not as_json and found.state in (State.ADDED, State.BACKFILLING):
        output.say(
            f"{found.name} is {found.state} in this database. It will be refused until its gates pass: pgvmig verify"
        )


@command.command("retire")
@click.argument("target")
@click.argument("version")
@_where
@output.options
def retire(
    target: str,
    version: str,
    config_file: str | None,
    section: str,
    line: str | None,
    dry_run: bool,
    dsn: str | None,
    as_json: bool,
) -> None:
    """Write the revision that retires VERSION of TARGET, on the line `embeddings`.

    Its downgrade is op.add_embedding() with the contract, columns and key as the catalog has them, written out: the
    revision that added the version may be gone by then. It adds the version empty; its vectors cannot be had back.

    \b
    JSON: as `pgvmig scaffold cutover`
    """
    from pgvmig.scaffolding import revisions

    project = _project(config_file, section)
    with output.connect(dsn) as conn:
        planned = revisions.retirement(conn, project, versions.find(conn, target, version), line)
    _finish(project, line, planned, dry_run=dry_run, as_json=as_json)


def _project(config_file: str | None, section: str) -> Project:
    from pgvmig.scaffolding.project import Project, configuration

    return Project(configuration(config_file, section))


def _finish(project: Project, line: str | None, planned: Revision, *, dry_run: bool, as_json: bool) -> None:
    """Write the revision unless it is there, and say so."""
    from pgvmig.scaffolding import revisions
    from pgvmig.scaffolding.project import LABEL

    apply, deploy = f"alembic upgrade {LABEL}@head", _deploy(project, line, planned)
    revision = planned if planned.revision or dry_run else revisions.write(project, planned)
    if as_json:
        found = {"changed": planned.revision is None, "dry_run": dry_run, "revision": revision.as_json()}
        output.print_json(found | {"apply": apply, "deploy": deploy})
        return
    _tell_revision(planned, revision)
    if planned.label:
        output.say(
            f"It begins the line {LABEL}. From now on `alembic upgrade head` is ambiguous; deploys run: {deploy}"
        )
    if planned.revision is None:
        output.say(f"When it is time: {apply}. Until then `alembic check` and --autogenerate refuse to compare.")


def _deploy(project: Project, line: str | None, planned: Revision) -> str:
    from pgvmig.scaffolding.project import MAIN_LABEL

    head = project.main_head(line)
    target = project.main_target(head) if head else f"{MAIN_LABEL}@head"
    return f"alembic upgrade {f'{MAIN_LABEL}@head' if planned.label == MAIN_LABEL else target}"


def _tell_env(edit: env_file.Edit, backup: Path | None) -> None:
    if not edit.changed:
        output.say(f"{edit.path} has what pgvmig needs.")
        return
    output.say(edit.diff.rstrip())
    output.say(f"Written; what it was is in {backup}." if backup else f"{edit.path} would be changed so.")


def _tell_revision(planned: Revision, revision: Revision) -> None:
    if planned.revision is not None:
        output.say(f"There already: {planned.revision} ({planned.message}), {planned.path}")
        return
    if revision.path is not None:
        output.say(f"Written: {revision.path}")
        return
    after = planned.after or "nothing"
    needs = f", depends on {planned.depends_on}" if planned.depends_on else ""
    output.say(f"Would be written: {planned.message}, after {after}{needs}")
    output.say("\n".join(f"    {text}" for text in f"{planned.upgrade}\n{planned.downgrade}".splitlines()))
