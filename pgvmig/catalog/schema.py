"""Install and upgrade the control schema, and refuse to work with another version of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from psycopg import sql

from pgvmig import __version__
from pgvmig import sql as files
from pgvmig.catalog.connection import require_own_functions, schema_missing
from pgvmig.errors import NotFoundError, SchemaVersionError
from pgvmig.runner import Runner, one

_NUMBER = re.compile(r"(\d+)_")


@dataclass(frozen=True, slots=True)
class Step:
    """One frozen file of sql/schema/."""

    number: int
    statements: list[str]


def steps() -> list[Step]:
    """Return the files of sql/schema/ in their order."""
    found = []
    for path in files.files("schema"):
        match = _NUMBER.match(path.name)
        if match is None:
            raise SchemaVersionError(f"sql/schema/{path.name} has no number")
        found.append(Step(int(match[1]), files.statements(path)))
    return found


def newest() -> int:
    """Return the schema version that this toolkit brings and needs."""
    return steps()[-1].number


def installed(run: Runner) -> int | None:
    """Return the schema version in the database, None without one. Raises SchemaVersionError when its rows are gone."""
    if one(run.run(files.query("schema", "has_installation"))) is None:
        return None
    version = one(run.run(files.query("schema", "installed_version")))
    if version is None:
        raise SchemaVersionError(
            "the control schema was restored without its rows",
            hazard="A dump of the structure alone leaves the versions, contracts and column numbers behind",
            next_step="dump again with --exclude-table-data='public.*' instead of --schema-only, or, to begin anew, "
            "DROP SCHEMA pgvmig CASCADE",
        )
    return int(version)


def require(run: Runner) -> None:
    """Raise SchemaVersionError unless the database has the schema that this toolkit needs.

    Raises ConfigError for a search_path on which other functions come before PostgreSQL's own.
    """
    if not run.offline:
        require_own_functions(str(one(run.run(sql.SQL("SHOW search_path")))))
        if installed(run) is None:
            raise schema_missing()
    run.run(files.query("schema", "require_schema", wanted=sql.Literal(newest())))


def install(run: Runner, at_least: int | None = None) -> bool:
    """Install or upgrade the control schema, in the caller's transaction. Returns whether anything was missing.

    Raises SchemaVersionError when the database, or `at_least`, is newer than this toolkit.
    """
    target = newest()
    if at_least is not None and at_least > target:
        raise SchemaVersionError(
            f"this pgvmig brings control schema version {target}, {at_least} is asked for",
            next_step="pip install --upgrade pgvmig",
        )
    present = None if run.offline else installed(run)
    if present is not None and present > target:
        require(run)
    _require_pgvector(run)
    for step in steps():
        if step.number > (present or 0):
            for statement in step.statements:
                run.run(sql.SQL(statement))
    if present != target:
        _record(run, target)
    _install_functions(run)
    return present != target


def uninstall(run: Runner) -> bool:
    """Drop the control schema. Returns whether it was there; raises DestructionRefusedError while it has versions."""
    if not run.offline and installed(run) is None:
        return False
    run.run(files.query("schema", "require_unused"))
    run.run(sql.SQL("DROP SCHEMA pgvmig CASCADE"))
    return True


def _install_functions(run: Runner) -> None:
    for path in files.files("functions"):
        for statement in files.statements(path):
            run.run(sql.SQL(statement))
    run.run(files.query("roles", "follow"))


def _record(run: Runner, target: int) -> None:
    run.run(files.query("schema", "record_version", version=sql.Literal(target), toolkit=sql.Literal(__version__)))


def _require_pgvector(run: Runner) -> None:
    if not run.offline and one(run.run(files.query("schema", "pgvector_available"))) is None:
        raise NotFoundError(
            "this server has no pgvector to install",
            next_step="install it on the server (Debian: postgresql-NN-pgvector), then run this again",
        )
    run.run(files.query("schema", "create_pgvector"))
