"""What a version's writes would do to others: the user's own triggers that they fire, subscribers that would stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from pgvmig import sql as files
from pgvmig.address import Address, Table
from pgvmig.runner import Runner, one


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """A trigger of the user's (or a rule) that an UPDATE of a vector fires.

    `moment`: BEFORE, AFTER or, of a rule, INSTEAD. `level`: ROW or STATEMENT. `condition`: of its WHEN, or None.
    """

    name: str
    function: str
    moment: str
    level: str
    condition: str | None

    def __str__(self) -> str:
        """Return how messages name it: `touch (BEFORE ROW, set_updated_at)`."""
        maybe = f", WHEN {self.condition}" if self.condition else ""
        return f"{self.name} ({self.moment} {self.level}, {self.function}{maybe})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """A publication that sends the table's changes.

    `scope`: table, schema or all tables. `columns`: its column list, empty without one. `leaks_columns`,
    `leaks_table`: whether subscribers would receive what the column layout, the table layout adds.
    """

    publication: str
    scope: str
    columns: list[str]
    leaks_columns: bool
    leaks_table: bool

    def __str__(self) -> str:
        """Return how messages name it: `docs`, `everything (FOR ALL TABLES)`."""
        clause = {"schema": " (FOR TABLES IN SCHEMA)", "all tables": " (FOR ALL TABLES)"}.get(self.scope, "")
        return f"{self.publication}{clause}"


def triggers(run: Runner, table: Table, columns: Sequence[str] = ()) -> list[Trigger]:
    """Return the user's own triggers that an UPDATE of `columns` fires, by name.

    Triggers that name columns (UPDATE OF) fire for those only: give the vector's where it was adopted.
    """
    given = sql.Literal([*columns])
    rows = run.run(files.query("hazards", "triggers", relation=table.relation, columns=given))
    return [Trigger(**row) for row in rows]


def publications(run: Runner, table: Table) -> list[Publication]:
    """Return the publications that send the table's changes, by name."""
    return [Publication(**row) for row in run.run(files.query("hazards", "publications", relation=table.relation))]


def of_the_control_schema(run: Runner) -> str | None:
    """Return what to mind when the control schema comes into a database of which every table is published, or None."""
    names = [row["name"] for row in run.run(files.query("hazards", "all_tables_publications"))]
    if not names:
        return None
    return (
        f"{', '.join(names)} (FOR ALL TABLES) publishes schema pgvmig too: subscribers that lack it stop at its "
        "first row. Next: pg_dump --schema=pgvmig --schema-only | psql SUBSCRIBER, or publish the tables by name"
    )


def publication_advice(run: Runner, where: Address, layout: str) -> str:
    """Return what to do before a version is added to the published table."""
    return str(
        one(run.run(files.query("hazards", "publication_advice", **where.literals(), layout=sql.Literal(layout))))
    )


def require_prepared_subscribers(run: Runner, where: Address, layout: str, *, prepared: bool) -> None:
    """Refuse what subscribers would stop at; a script asks when it runs.

    Raises PublishedTableError naming the publications, unless `prepared`: the word that subscribers have what is added.
    """
    run.run(
        files.query(
            "hazards",
            "require_prepared_subscribers",
            **where.literals(),
            layout=sql.Literal(layout),
            prepared=sql.Literal(prepared),
        )
    )
