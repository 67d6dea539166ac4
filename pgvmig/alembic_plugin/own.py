"""Keep autogenerate away from what belongs to pgvmig, and from changes that would destroy vectors.

Filters keep the other comparators from finding it, so that they do not log it either. What they find all the same, as
a plugin may that asks no filter, is taken out at the end.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from alembic.operations import MigrateOperation
from alembic.operations import ops as alembic_ops
from sqlalchemy.exc import SAWarning

from pgvmig.alembic_plugin.notice import NoticeOp, log, noticed
from pgvmig.alembic_plugin.recorded import OwnNames, Place
from pgvmig.names import label

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext

SCHEMA = "pgvmig"
_VECTOR_TYPES = ("vector", "halfvec")


def filter_own(context: AutogenContext, own: OwnNames) -> None:
    """Let the comparators of this run pass over what is ours, beside the user's own filters."""

    def is_wanted_name(name: str | None, type_: str, _parents: Any) -> bool:
        return not (type_ == "schema" and name == SCHEMA)

    def is_wanted(item: Any, name: Any, type_: str, reflected: bool, other: Any) -> bool:
        is_new = not reflected and other is None
        if type_ == "table":
            return not _is_own_table(own, (item.schema, name), is_new=is_new)
        table = getattr(item, "table", None)
        return table is None or not _is_own(own, (table.schema, table.name), str(name), is_new=is_new)

    for _, name in own.columns:
        # what pgvector's own package would teach SQLAlchemy to read; who does not map these columns need not have it
        warnings.filterwarnings("ignore", f"Did not recognize type '\\w+' of column '{re.escape(name)}'", SAWarning)
    # SQLAlchemy stumbles over a check that is NOT VALID, as ours is during a backfill, and says nothing by this
    warnings.filterwarnings("ignore", "Can't validate argument 'dialect_options'", SAWarning)
    # Alembic has no public way to add one from a plugin; the tests run with its oldest and newest release
    context._name_filters.append(is_wanted_name)  # noqa: SLF001
    context._object_filters.append(is_wanted)  # noqa: SLF001


def _is_own_table(own: OwnNames, place: Place, *, is_new: bool = False) -> bool:
    return place[0] == SCHEMA or place in own.tables or (is_new and place in own.future_tables)


def _is_own(own: OwnNames, place: Place, name: str, *, is_new: bool = False) -> bool:
    named = (place, name)
    is_ours = named in own.columns or named in own.others or (is_new and named in own.future_columns)
    return is_ours or _is_own_table(own, place)


def without_own(operations: Iterable[Any], own: OwnNames) -> list[MigrateOperation]:
    """Return the operations without what is on ours; the containers among them are changed in place."""
    return [kept for operation in operations for kept in _kept(operation, own)]


def _kept(operation: Any, own: OwnNames) -> Iterator[MigrateOperation]:
    place: Place = (getattr(operation, "schema", None), getattr(operation, "table_name", ""))
    if isinstance(operation, alembic_ops.ModifyTableOps):
        kept = without_own(operation.ops, own)
        yield from (each for each in kept if isinstance(each, NoticeOp))
        operation.ops = [each for each in kept if not isinstance(each, NoticeOp)]
        if operation.ops:
            yield operation
    elif isinstance(operation, alembic_ops.CreateTableOp):
        operation.columns = [
            each for each in operation.columns if not _is_own(own, place, getattr(each, "name", ""), is_new=True)
        ]
        if not _is_own_table(own, place, is_new=True):
            yield operation
    elif isinstance(operation, alembic_ops.AlterColumnOp):
        yield from _altered(operation, own, place)
    elif not place[1] or not _touches_own(operation, own, place):
        yield operation


def _touches_own(operation: Any, own: OwnNames, place: Place) -> bool:
    if isinstance(operation, alembic_ops.AddColumnOp):
        return _is_own(own, place, str(operation.column.name), is_new=True)
    if isinstance(operation, alembic_ops.CreateIndexOp):
        return any(_is_own(own, place, str(getattr(each, "name", each)), is_new=True) for each in operation.columns)
    if isinstance(operation, alembic_ops.DropColumnOp) and (place, operation.column_name) in own.adopted:
        log.warning(
            "%s.%s holds the vectors of a version: it is not dropped before that is retired. Next: pgvmig status",
            *(place[1], operation.column_name),
        )
        return True
    names = (getattr(operation, name, None) for name in ("column_name", "index_name", "constraint_name"))
    return _is_own_table(own, place) or any(name is not None and _is_own(own, place, str(name)) for name in names)


def _altered(operation: alembic_ops.AlterColumnOp, own: OwnNames, place: Place) -> Iterator[MigrateOperation]:
    if _is_own(own, place, operation.column_name):
        return
    if operation.modify_type is not None and _is_vector(operation.modify_type):
        text = (
            f"{label(place[1], operation.column_name, place[0])}: {operation.existing_type} -> {operation.modify_type} "
            "is not written, because ALTER COLUMN ... TYPE makes no vector of the new model from one of the old"
        )
        operation.modify_type = None
        if (place, operation.column_name) in own.adopted:
            log.info("%s", text)
        else:
            yield noticed(
                f"{text}. Next: declare Embedding(..., adopt={operation.column_name!r}) with the model that wrote the "
                "vectors, and once that is adopted, change its model"
            )
    if operation.has_changes():
        yield operation


def _is_vector(kind: Any) -> bool:
    return str(kind).partition("(")[0].strip().lower() in _VECTOR_TYPES
