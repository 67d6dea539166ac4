"""What the database has: versions as the control schema records them, and the names that belong to pgvmig."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pgvmig import sql as files
from pgvmig.address import Table
from pgvmig.alembic_plugin.migration_runner import rows
from pgvmig.contract import Contract
from pgvmig.index_plan import IndexPlan
from pgvmig.lifecycle import State
from pgvmig.runner import Row, decoded

# A table as Alembic names it: without a schema where the search_path finds it.
Place = tuple[str | None, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedVersion:
    """A version of a slot. `planned`: somebody asked for its index; else `index` is what its column happens to have.

    `retired_by` is the revision that retired it, where one did.
    """

    name: str
    state: State
    adopted: bool
    contract: Contract
    search: dict[str, Any]
    index: IndexPlan | None
    planned: bool
    activated_from: str | None
    revision: str | None
    vector_column: str
    retired_by: str | None

    @property
    def number(self) -> int:
        """The number in its name, by which versions of a slot follow one another."""
        return int(self.name[1:])

    @property
    def live(self) -> bool:
        """Whether it is not retired."""
        return self.state != State.RETIRED


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedSlot:
    """A slot and its versions in the order of their numbers, retired ones included.

    `renamed` has the present names of columns that versions know by another.
    """

    schema: str
    table: str
    visible: bool
    slot: str
    view_columns: list[str]
    key_columns: list[str]
    shows_all: bool
    renamed: dict[str, str] = field(default_factory=dict)
    versions: list[RecordedVersion] = field(default_factory=list)

    @property
    def places(self) -> Iterator[Place]:
        """How models may name the table."""
        return _places(self.schema, self.table, self.visible)

    @property
    def live(self) -> list[RecordedVersion]:
        """The versions that are not retired."""
        return [version for version in self.versions if version.live]

    @property
    def active(self) -> RecordedVersion | None:
        """The version that services search."""
        return next((version for version in self.versions if version.state == State.ACTIVE), None)


@dataclass(slots=True, kw_only=True)
class OwnNames:
    """Names that autogenerate must leave alone. Columns, indexes and constraints go by their table.

    `adopted` columns are the application's, with a version's vectors. What has a `future` name is not there yet: nobody
    else is to make it, and what is there under such a name is the application's.
    """

    tables: set[Place] = field(default_factory=set)
    columns: set[tuple[Place, str]] = field(default_factory=set)
    adopted: set[tuple[Place, str]] = field(default_factory=set)
    others: set[tuple[Place, str]] = field(default_factory=set)
    future_tables: set[Place] = field(default_factory=set)
    future_columns: set[tuple[Place, str]] = field(default_factory=set)

    def add(self, kind: str, place: Place, name: str | None, *, adopted: bool = False) -> None:
        """Keep a name of a table (which has its place only), a column, an index or a constraint."""
        if name is None:
            self.tables.add(place)
        elif kind == "column":
            (self.adopted if adopted else self.columns).add((place, name))
        else:
            self.others.add((place, name))


@dataclass(slots=True, kw_only=True)
class Recorded:
    """All of it; `schema_version` is None without a control schema.

    Columns that are `shown` by versions cannot be dropped or retyped while the views are there; of those that are
    `embedded` it says by which versions.
    """

    schema_version: int | None
    slots: list[RecordedSlot]
    own: OwnNames
    shown: set[tuple[Place, str]] = field(default_factory=set)
    embedded: dict[tuple[Place, str], list[str]] = field(default_factory=dict)

    def slot(self, place: Place, slot: str) -> RecordedSlot | None:
        """Return a table's slot, None where it never had a version."""
        return next((found for found in self.slots if found.slot == slot and place in found.places), None)


def read(connection: Any) -> Recorded:
    """Ask the catalog, on SQLAlchemy's connection."""
    (there,) = rows(connection, files.query("schema", "has_installation"))
    if there["to_regclass"] is None:
        return Recorded(schema_version=None, slots=[], own=OwnNames())
    (installed,) = rows(connection, files.query("schema", "installed_version"))
    own = OwnNames()
    for row in rows(connection, files.query("autogenerate", "own_objects")):
        for place in _places(row["schema"], row["table"], row["visible"]):
            own.add(row["kind"], place, row["name"], adopted=row["adopted"])
    slots = _slots(rows(connection, files.query("autogenerate", "versions")))
    found = Recorded(schema_version=installed["schema_version"], slots=slots, own=own)
    for row in rows(connection, files.query("autogenerate", "dependents")):
        for place in _places(row["schema"], row["table"], row["visible"]):
            found.shown.add((place, row["column"]))
            if row["embeds"]:
                found.embedded.setdefault((place, row["column"]), []).append(row["version"])
    return found


def table_facts(connection: Any, place: Place) -> Row | None:
    """Return the columns, key and vector columns of a table, None where there is none."""
    found = rows(connection, files.query("autogenerate", "table_facts", relation=Table(*place).relation))
    return found[0] | {"vectors": decoded(found[0]["vectors"])} if found else None


def _places(schema: str, table: str, visible: bool) -> Iterator[Place]:
    yield schema, table
    if visible:
        yield None, table


def _slots(found: list[Row]) -> list[RecordedSlot]:
    slots: dict[tuple[str, str, str], RecordedSlot] = {}
    for row in found:
        slot = slots.setdefault(
            (row["schema"], row["table"], row["slot"]),
            RecordedSlot(
                renamed=decoded(row["renamed"]),
                **{name: row[name] for name in RecordedSlot.__slots__ if name not in ("renamed", "versions")},
            ),
        )
        slot.versions.append(_version(row))
    for slot in slots.values():
        slot.versions.sort(key=lambda version: version.number)
    return list(slots.values())


def _version(row: Row) -> RecordedVersion:
    plan = row["index_plan"] and decoded(row["index_plan"])
    there = row["index"] and decoded(row["index"])
    return RecordedVersion(
        name=row["version"],
        state=State(row["state"]),
        adopted=row["adopted"],
        contract=Contract.of(decoded(row["definition"])),
        search=decoded(row["search"]),
        index=_plan(plan or there),
        planned=plan is not None,
        activated_from=row["activated_from"],
        revision=row["revision"],
        vector_column=row["vector_column"],
        retired_by=row["retired_by"],
    )


def _plan(found: Mapping[str, Any] | None) -> IndexPlan | None:
    if not found:
        return None
    options = {name: int(value) for name, value in (found.get("options") or {}).items()}
    return IndexPlan(found["method"], options, found.get("quantize"))
