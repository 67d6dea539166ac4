"""A table's whole life with pgvmig, from the first version to none, and what must be true after each step."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from backfilling import Site
from lifecycle import CONTRACT, find, retire
from psycopg import sql
from shape import Shape, named
from snapshot import differences, snapshot

from pgvmig import adding, indexing, switch
from pgvmig.address import Address, address
from pgvmig.catalog.versions import Version
from pgvmig.checks.evidence import Options
from pgvmig.checks.verify import verify
from pgvmig.names import view_columns, view_name
from pgvmig.runner import ConnectionRunner
from pgvmig.terms import Terms

PROVIDERS = {"v1": "new", "v2": "other"}
# Rows without a text.
BLANK, EMPTY = 29, 30


@dataclass
class Life:
    """A table of that shape with thirty rows, and the verbs of its migration in one layout."""

    site: Site
    shape: Shape
    layout: str
    roles: dict[str, str]
    made: bool = False
    active: str | None = None
    _states: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.run = ConnectionRunner(self.site.connection)
        if not self.made:
            self._make()
        self.own = self._columns()
        self.remember("bare")

    def _make(self) -> None:
        for statement in self.shape.statements(self.roles):
            self.site.execute(statement)
        self._do(self.shape.insert(1, 30))
        self._do(self.shape.update("{body} = E' \\n\\t'", f"{{n}} = {BLANK}"))
        self._do(self.shape.update("{body} = NULL", f"{{n}} = {EMPTY}"))

    # What the application does

    def _do(self, statement: str) -> None:
        done = self.site.execute(named(statement, self.roles))
        assert done.rowcount != 0, statement

    def write(self) -> None:
        """Insert, update, delete and give rows other keys, as an application does."""
        first = 1 + max(self.numbers())
        do = [
            self.shape.insert(first, first + 4),
            self.shape.update("{body} = 'changed ' || {n} || ' after ' || {body}", "{n} % 5 = 1"),
            self.shape.update("{n} = {n}", "{n} % 3 = 0"),
            self.shape.update(f"{{body}} = 'no longer blank {first}'", f"{{n}} = {BLANK}"),
            self.shape.update("{body} = ''", "{n} = 8"),
            self.shape.delete("{n} % 9 = 4"),
        ]
        if self.shape.rekey:
            do.append(self.shape.update(self.shape.rekey, "{n} % 8 = 2"))
        if self.shape.write:
            do.append(self.shape.write)
        for statement in do:
            self._do(statement)

    def empty(self) -> None:
        """Truncate the table."""
        self.site.execute(f"TRUNCATE {self.shape.identifier.as_string(None)} CASCADE")

    # What pgvmig does

    def add(self, version: str) -> None:
        """Add a version, whose vectors the provider of its own makes."""
        name = PROVIDERS[version]
        contract = CONTRACT | {
            "provider": name,
            "model": self.site.server.models[name].name,
            "input": self.shape.input or f"coalesce({sql.Identifier(self.shape.body).as_string(None)}, '')",
        }
        with self._loses_nothing(), self.run.transaction():
            adding.add(
                self.run,
                self.where(version),
                contract,
                layout=self.layout,
                key=self.shape.key or None,
                prepared=self.shape.prepared,
            )

    def fill(self, *versions: str) -> None:
        """Run a worker and look at every row's vector."""
        with self._loses_nothing(worker=True):
            result = self.site.run()
        assert result.why == "done"
        for version in versions:
            assert self.problems(version) == []

    def index(self, version: str) -> None:
        """Build the index."""
        with self._loses_nothing():
            indexing.build(self.run, self.where(version))

    def verify(self, version: str) -> None:
        """Prove that the version is ready: every gate is asked, what verify measures included."""
        looked = verify(self.site.connection, self.version(version), Terms(), Options(sample=8, queries=5))
        assert [result for result in looked if not result.passed] == []

    def cut_over(self, version: str) -> None:
        """Make the version the active one, if the gates pass."""
        with self._loses_nothing():
            assert switch.cut_over(self.run, self.where(version))["version"] == version
        self.active = version
        self.look()

    def roll_back(self, version: str) -> None:
        """Leave a version again."""
        with self._loses_nothing():
            self.active = switch.roll_back(self.run, self.where(version))["version"]
        self.look()

    def retire(self, version: str) -> None:
        """Retire a version, as if its soak were over."""
        with self._loses_nothing():
            retire(self.run, self.where(version), "a test")

    def outcomes(self, version: str) -> list[str]:
        """Return why rows have no vector of a version."""
        statement = sql.SQL("SELECT coalesce(error, kind) FROM {} ORDER BY 1").format(
            sql.Identifier("pgvmig", self.version(version).object("outcome"))
        )
        return [why for (why,) in self.site.connection.execute(statement)]

    def end(self) -> None:
        """Take away what is not this database's own."""
        if self.shape.clean:
            for statement in named(self.shape.clean, self.roles).split("; "):
                self.site.execute(statement)

    def drop(self, version: str, *, destroy: bool = False) -> None:
        """Undo add."""
        with self._loses_nothing():
            indexing.drop(self.run, self.where(version), destroy=destroy)
            with self.run.transaction():
                adding.drop(self.run, self.where(version), destroy=destroy)

    # What must be true

    def remember(self, name: str) -> None:
        """Keep the catalog as it is now."""
        self._states[name] = snapshot(self.site.connection)

    def changed_since(self, name: str) -> list[str]:
        """Return what the catalog has more, less or other than it had."""
        return differences(self._states[name], snapshot(self.site.connection))

    def problems(self, version: str) -> list[str]:
        """Return what is wrong with a version that should be complete, row by row."""
        found = self.version(version)
        texts = self._texts(found)
        model = self.site.server.models[PROVIDERS[version]]
        shown = self._shown(self._view(version))
        wanted = {number: text for number, text in texts.items() if text.strip()}
        right = dict(zip(wanted, model.embed(list(wanted.values())), strict=True))
        wrong = [
            f"{number}: not {version}'s vector of {texts[number]!r:.40}"
            for number, (vector, space) in shown.items()
            if number in right and not (space == version and np.allclose(vector, right[number], atol=1e-6))
        ]
        return [
            *wrong,
            *(f"{number}: no vector" for number in right.keys() - shown.keys()),
            *(f"{number}: a vector, and no text" for number in shown.keys() - right.keys()),
            *self._left_over(found, len(shown), len(texts) - len(wanted)),
        ]

    def look(self) -> None:
        """Ask the current view, as the owner and as every reader, for what the table has."""
        current = view_name(self.shape.table, self.shape.slot, "current")
        if self.active is None:
            assert self.site.value("SELECT count(*) FROM pg_class WHERE relname = %s", current) == 0
            return
        view = sql.Identifier(self.shape.schema, current)
        shown = self._shown(view)
        assert {space for _, space in shown.values()} == ({self.active} if self.numbers() else set())
        assert shown == self._shown(self._view(self.active))
        if shown:
            self._search(view, shown)
        for role in self.shape.readers:
            with self._as(self.roles[role]):
                seen = self._numbers(self.shape.identifier)
                assert set(self._shown(view)) == seen & shown.keys()
                assert set(self._shown(self._view(self.active))) == seen & shown.keys()

    def _search(self, view: sql.Identifier, shown: dict[int, Any]) -> None:
        """Look for one row's own vector, as a service does: the row is found first."""
        number, (vector, space) = next(iter(shown.items()))
        slot = sql.Identifier(self.shape.slot)
        statement = sql.SQL(
            "SELECT {n} FROM {view} WHERE {space} = {version} AND {slot} <=> {vector} < 1e-6 "
            "ORDER BY {slot} <=> {vector} LIMIT 3"
        ).format(
            n=sql.Identifier(self.shape.number),
            view=view,
            space=sql.Identifier(view_columns(self.shape.slot)[1]),
            version=sql.Literal(space),
            slot=slot,
            vector=sql.Literal(json.dumps(vector)),
        )
        assert number in [found for (found,) in self.site.connection.execute(statement)]

    def _left_over(self, version: Version, vectors: int, without: int) -> list[str]:
        stored = sql.SQL("SELECT count({}) FROM {}").format(
            sql.Identifier(version.vector_column),
            sql.Identifier(version.vector_table_schema, version.vector_table_name),
        )
        counts = {
            "vectors without a row": self.site.connection.execute(stored).fetchone()[0] - vectors,
            "entries in the log": self._count("stale", version),
            "outcomes too many": self._count("outcome", version) - without,
        }
        return [f"{number} {what}" for what, number in counts.items() if number]

    def _count(self, suffix: str, version: Version) -> int:
        statement = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier("pgvmig", version.object(suffix)))
        return self.site.connection.execute(statement).fetchone()[0]

    def _texts(self, version: Version) -> dict[int, str]:
        statement = sql.SQL("SELECT d.{}, {}(d.*) FROM {} AS d").format(
            sql.Identifier(self.shape.number),
            sql.Identifier("pgvmig", version.object("input")),
            self.shape.identifier,
        )
        return dict(self.site.connection.execute(statement).fetchall())

    def _shown(self, view: sql.Identifier) -> dict[int, tuple[list[float], str]]:
        slot, space = view_columns(self.shape.slot)[:2]
        statement = sql.SQL("SELECT {}, {}::text, {} FROM {}").format(
            *map(sql.Identifier, (self.shape.number, slot, space)), view
        )
        return {
            number: (json.loads(vector), space) for number, vector, space in self.site.connection.execute(statement)
        }

    def numbers(self) -> set[int]:
        """Return the numbers of the table's rows."""
        return self._numbers(self.shape.identifier)

    def _numbers(self, relation: sql.Identifier) -> set[int]:
        statement = sql.SQL("SELECT {} FROM {}").format(sql.Identifier(self.shape.number), relation)
        return {number for (number,) in self.site.connection.execute(statement)}

    def _columns(self) -> list[str]:
        rows = self.site.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped "
            "ORDER BY attnum",
            self.shape.identifier.as_string(None),
        )
        return [name for (name,) in rows]

    @contextmanager
    def _loses_nothing(self, *, worker: bool = False):
        """What pgvmig does in the block changes no value of the application's."""
        before = self._values(worker=worker)
        yield
        assert self._values(worker=worker) == before

    def _values(self, *, worker: bool) -> list[Any]:
        # in the column layout the worker updates the rows, which the table's own triggers follow
        moved = self.shape.touched if worker and self.layout == "column" else ()
        kept = [name for name in self.own if name not in moved]
        statement = sql.SQL("SELECT ROW({})::text FROM {} ORDER BY {}").format(
            sql.SQL(", ").join(map(sql.Identifier, kept)), self.shape.identifier, sql.Identifier(self.shape.number)
        )
        return self.site.connection.execute(statement).fetchall()

    @contextmanager
    def _as(self, role: str):
        self.site.connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
        yield
        self.site.connection.execute("RESET ROLE")

    def _view(self, version: str) -> sql.Identifier:
        return sql.Identifier(self.shape.schema, view_name(self.shape.table, self.shape.slot, version))

    def where(self, version: str) -> Address:
        """Return a version's address."""
        return address(self.shape.table, version, self.shape.schema, self.shape.slot)

    def version(self, version: str) -> Version:
        """Return a version as the catalog has it."""
        return find(self.site.connection, self.where(version))


def live(life: Life) -> None:
    """Take the table through everything that can happen to it, forwards and all the way back."""
    life.add("v1")
    life.fill("v1")
    life.index("v1")
    life.verify("v1")
    life.cut_over("v1")
    life.remember("v1 active")

    life.add("v2")
    life.drop("v2")
    assert life.changed_since("v1 active") == []
    life.add("v2")
    life.write()
    life.fill("v1", "v2")
    life.index("v2")
    life.verify("v2")
    life.cut_over("v2")
    life.write()
    life.fill("v1", "v2")
    life.roll_back("v2")
    life.verify("v2")  # a third of its vectors are new since
    life.cut_over("v2")
    life.retire("v1")
    life.look()

    # down again, as the revisions' downgrades do
    life.empty()
    life.add("v1")
    life.index("v1")
    life.roll_back("v2")
    life.drop("v2")
    assert life.changed_since("v1 active") == []
    life.roll_back("v1")
    life.drop("v1")
    assert life.changed_since("bare") == []
