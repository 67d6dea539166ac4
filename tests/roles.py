"""A table of somebody's, a control schema that belongs to another role, and a login for each of pgvmig's roles."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import lifecycle
import psycopg
from commands import runner
from psycopg import sql
from psycopg.conninfo import make_conninfo
from servers import Database, unique_name

from pgvmig import indexing
from pgvmig.address import Address, address
from pgvmig.backfill import worker
from pgvmig.backfill.options import Options, Result
from pgvmig.catalog import roles, standbys
from pgvmig.catalog.versions import Version
from pgvmig.runner import ConnectionRunner

# The views show none of what is secret; the input calls a function of the owner's.
TABLE = """
CREATE SCHEMA app;
CREATE TABLE app.documents (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text, tenant int, secret text);
INSERT INTO app.documents (body, tenant, secret)
SELECT 'text ' || i, i % 2, 'secret ' || i FROM generate_series(1, 20) AS i;
CREATE FUNCTION app.clean(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN trim($1); END';
"""
SHOWN = ["id", "body", "tenant"]
DUTIES = ["reader", "worker", "operator", "admin"]


@dataclass
class Cast:
    """Who acts: `root` is a superuser, `owner` has the table, `migrator` the control schema; each duty has a login."""

    database: Database
    layout: str
    name: str = field(default_factory=lambda: unique_name("cast"))
    root: psycopg.Connection[Any] = field(init=False)

    def __post_init__(self) -> None:
        self.root = self.database.connect()
        lifecycle.install(self.root)
        standbys.none(self.root)
        self.execute("CREATE ROLE {owner} NOLOGIN; CREATE ROLE {migrator} LOGIN; GRANT {owner} TO {migrator}")
        self.execute(TABLE)
        self.execute(
            "ALTER SCHEMA app OWNER TO {owner}; ALTER TABLE app.documents OWNER TO {owner}; "
            "ALTER FUNCTION app.clean OWNER TO {owner}"
        )

    @property
    def owner(self) -> str:
        """Who has the table."""
        return f"{self.name}_owner"

    @property
    def migrator(self) -> str:
        """Who has the control schema."""
        return f"{self.name}_migrator"

    @property
    def superuser(self) -> str:
        """Who `root` is."""
        return self.root.info.user

    def login(self, duty: str) -> str:
        """Return the name of the member of a duty's role that can log in."""
        return f'{self.name} {duty}\'s "login"'

    def create_roles(self, **options: Any) -> dict[str, Any]:
        """Create the roles, the control schema given to the migrator, and a login for each."""
        done = roles.create(ConnectionRunner(self.root), self.name, **({"owner": self.migrator} | options))
        for duty in DUTIES:
            self.execute(
                "CREATE ROLE {login} LOGIN IN ROLE {role}",
                login=sql.Identifier(self.login(duty)),
                role=sql.Identifier(f"{self.name}_{duty}"),
            )
        for duty in ("worker", "operator"):  # as docs/security.md advises: nobody's functions but PostgreSQL's own
            self.execute("ALTER ROLE {login} SET search_path = pg_catalog", login=sql.Identifier(self.login(duty)))
        return done

    def execute(self, statement: str, **parts: sql.Composable) -> psycopg.Cursor[Any]:
        """Run statements as the superuser."""
        names = {"owner": sql.Identifier(self.owner), "migrator": sql.Identifier(self.migrator)} | parts
        return self.root.execute(sql.SQL(statement).format(**names))

    def value(self, statement: str) -> Any:
        """Return the only value of a query of the superuser's."""
        return self.root.execute(statement).fetchone()[0]

    def dsn(self, who: str) -> str:
        """Return the connection string of a duty's login, or of a role."""
        return make_conninfo(self.database.dsn, user=self.login(who) if who in DUTIES else who)

    @contextmanager
    def connected(self, who: str) -> Iterator[psycopg.Connection[Any]]:
        """Connect as somebody."""
        with psycopg.connect(self.dsn(who), autocommit=True) as connection:
            yield connection

    def add(self, name: str, text: str, who: str | None = None, **options: Any) -> Version:
        """Add a version as the migrator, or as somebody else."""
        with self.connected(who or self.migrator) as connection:
            return lifecycle.add_version(
                connection,
                "documents",
                name,
                {"input": text, "provider": "new"}
                | ({"vector_type": options.pop("vector_type")} if "vector_type" in options else {}),
                schema="app",
                **({"layout": self.layout, "columns": SHOWN} | options),
            )

    def backfill(self, name: str, who: str = "worker") -> Result:
        """Run a worker to the end, as somebody."""
        return worker.run(Options(dsn=self.dsn(who), target="app.documents", version=name, max_time=60, lease=5.0))

    def prove(self, version: Version) -> None:
        """Build the index as the migrator, and have what verifying finds."""
        with self.connected(self.migrator) as connection:
            indexing.build(ConnectionRunner(connection), self.where(version.version))
        lifecycle.prove(self.root, version)

    def where(self, name: str) -> Address:
        """Return a version's address."""
        return address("documents", name, "app")

    def cli(self, monkeypatch: Any, capsys: Any, who: str, *arguments: str) -> tuple[int, Any]:
        """Run a command as somebody; its exit code, and what it printed first as JSON."""
        done = runner(self.dsn(who), monkeypatch, capsys)(*arguments, "--json")
        return done.code, json.JSONDecoder().raw_decode(done.out)[0] if done.out else done.err

    def close(self) -> None:
        """Drop the roles, which outlive the database."""
        self.root.execute("DROP SCHEMA app CASCADE")
        self.root.execute("DROP SCHEMA pgvmig CASCADE")
        for (name,) in self.root.execute(
            "SELECT rolname FROM pg_roles WHERE starts_with(rolname, %s) ORDER BY rolcanlogin DESC", [self.name]
        ).fetchall():
            self.root.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(name)))
