"""The revisions that scaffold writes: the control schema on the main line, cutovers and retirements on their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
from alembic.script import Script
from alembic.util import CommandError, rev_id

from pgvmig.alembic_plugin import schema_ops, switch_ops
from pgvmig.catalog import schema, versions
from pgvmig.catalog.versions import Version
from pgvmig.errors import ConfigError, ConflictError, NotFoundError
from pgvmig.lifecycle import State
from pgvmig.scaffolding.literal import added_again, named, rendered
from pgvmig.scaffolding.project import LABEL, MAIN_LABEL, Operation, Project

_ADDS = ("add_embedding", "adopt_embedding")
# What can be said of a version only while it is there.
_NEEDS = (*_ADDS, "index_embedding", "drop_embedding_index", "set_embedding_search")


@dataclass(frozen=True, kw_only=True)
class Revision:
    """A revision of the project, or one that is to be written: that has no id and no path yet."""

    message: str
    after: str | None = None
    label: str | None = None
    depends_on: str | None = None
    upgrade: str | None = None
    downgrade: str | None = None
    revision: str | None = None
    path: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it by name."""
        return asdict(self)


def control_schema(project: Project, line: str | None = None) -> Revision:
    """Return the revision that installs the control schema: the project's own, or one after the main line's head.

    It gives the main line a label when that has none, for deploys to name.
    """
    found = _first(project, ("install_pgvmig",))
    if found is not None:
        return _existing(found)
    head = project.main_head(line)
    install = schema_ops.InstallOp(schema.newest())
    return Revision(
        message="pgvmig control schema",
        after=head.revision if head else None,
        label=None if head and head.branch_labels else MAIN_LABEL,
        upgrade=rendered([install]),
        downgrade=rendered([install.reverse()]),
    )


def cutover(project: Project, version: Version, line: str | None = None) -> Revision:
    """Return the revision that cuts over to the version, on the line `embeddings`.

    Raises ConflictError for a version that is retired.
    """
    found = _first(project, ("cut_over_embedding",), version)
    if found is not None:
        return _existing(found)
    if not version.captured:
        raise ConflictError(
            f"{version.name} is retired",
            hazard="It has no vectors that anybody could search",
            next_step="add its contract as the next version: op.add_embedding() in a revision",
        )
    switch = switch_ops.CutOverEmbeddingOp(**named(version, _schema(project, version)))
    return replace(
        _on_branch(project, version, line),
        message=f"cut over {version.name}",
        upgrade=rendered([switch]),
        downgrade=rendered([switch.reverse()]),
    )


def retirement(conn: psycopg.Connection[Any], project: Project, version: Version, line: str | None = None) -> Revision:
    """Return the revision that retires the version, on the line `embeddings`; its downgrade adds the version again.

    Raises ConflictError while the version is active, NotFoundError when no revision cuts over to the one that is.
    """
    found = _first(project, ("retire_embedding",), version)
    if found is not None:
        return _existing(found)
    if version.state == State.ACTIVE:
        raise ConflictError(
            f"{version.name} is active",
            hazard="Whoever searches would find nothing",
            next_step=f"cut over to the next version first: pgvmig scaffold cutover {version.label} <version>",
        )
    _require_cutover(conn, project, version)
    schema_name = _schema(project, version)
    return replace(
        _on_branch(project, version, line, after=_NEEDS),
        message=f"retire {version.name}",
        upgrade=rendered([switch_ops.RetireEmbeddingOp(**named(version, schema_name))]),
        downgrade=rendered(added_again(conn, version, schema_name)),
    )


def write(project: Project, revision: Revision) -> Revision:
    """Write the revision's file, as `alembic revision` does it, and return it with its id and path."""
    # where there are several folders for revisions, a line begins beside what it depends on
    near = project.script.get_revision(revision.depends_on) if revision.depends_on else None
    try:
        script = project.script.generate_revision(
            rev_id(),
            revision.message,
            head=revision.after or "base",
            branch_labels=revision.label,
            depends_on=revision.depends_on,
            version_path=project.location(near),
            upgrades=_indented(revision.upgrade),
            downgrades=_indented(revision.downgrade),
            imports="",
            config=project.config,
        )
    except CommandError as error:
        raise ConfigError(f"Alembic could not write the revision: {error}") from error
    except FileNotFoundError as error:
        raise ConfigError(
            f"{error.filename} is missing, from which Alembic writes revisions",
            next_step="take the one that `alembic init elsewhere` makes; then run this again",
        ) from error
    assert script is not None  # noqa: S101  # what has just been written is there
    return replace(revision, revision=script.revision, path=str(Path(script.path)))


def _on_branch(project: Project, version: Version, line: str | None, *, after: Sequence[str] = _ADDS) -> Revision:
    """Return where a revision about the version stands: after the line's last, and after those operations on it."""
    last = project.branch_head()
    before = _first(project, after, version)
    needed = before.revision if before else project.main_head(line)
    return Revision(
        message="",
        after=last.revision if last else None,
        label=None if last else LABEL,
        depends_on=needed.revision if needed and needed not in _before(project, last) else None,
    )


def _before(project: Project, last: Script | None) -> Sequence[Script]:
    """Return the revision and all that it needs."""
    return [*project.script.iterate_revisions(last.revision, "base", implicit_base=True)] if last else []


def _require_cutover(conn: psycopg.Connection[Any], project: Project, version: Version) -> None:
    """On an empty database the project's revisions must lead where the database is."""
    for other in versions.all_versions(conn):
        if (other.relation, other.slot, other.state) != (version.relation, version.slot, State.ACTIVE):
            continue
        if not other.adopted and _first(project, ("cut_over_embedding",), other) is None:
            raise NotFoundError(
                f"{other.name} is active, and no revision cuts over to it",
                hazard="An empty database, made from the revisions, would have no active version",
                next_step=f"pgvmig scaffold cutover {other.name}; where it is active, that revision does nothing",
            )


def _first(project: Project, names: Sequence[str], version: Version | None = None) -> Operation | None:
    """Return the last call of one of the operations, about the version if one is given."""
    found = [
        operation
        for operation in project.operations()
        if operation.name in names and (version is None or operation.concerns(version))
    ]
    return found[-1] if found else None


def _added(project: Project, version: Version) -> Operation | None:
    return _first(project, _ADDS, version)


def _existing(operation: Operation) -> Revision:
    script = operation.revision
    return Revision(message=script.doc or "", revision=script.revision, path=str(Path(script.path)))


def _schema(project: Project, version: Version) -> str | None:
    """Return the schema to write down: as the revision that adds the version has it."""
    added = _added(project, version)
    plain = None if version.table_schema == "public" else version.table_schema
    return added.schema if added else plain


def _indented(code: str | None) -> str:
    return "\n    ".join((code or "").splitlines())
