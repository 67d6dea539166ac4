"""Find `sql/`, read its named queries, and fill in identifiers. Knows PostgreSQL's quoting, nothing of our tables.

A query file holds blocks that start with `-- name: some_name`; the comment lines after it are for the reader.
Identifiers stand as `{braces}` and are filled with `psycopg.sql`; values stand as `%(name)s` and stay parameters.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from psycopg import sql

# A statement ends with a semicolon before an empty line: our own files keep to it, so that no parser is needed.
_END = re.compile(r";[ ]*\n(?=\s*\n|\s*\Z)")
_NAME = re.compile(r"^-- name: (\w+)[^\n]*\n", re.MULTILINE)


@cache
def root() -> Path:
    """Return the folder `sql/`: inside the installed package, or beside it in a checkout.

    Raises FileNotFoundError when neither is there, which means a broken install.
    """
    package = Path(str(resources.files("pgvmig")))
    for folder in (package / "_sql", package.parent / "sql"):
        if (folder / "schema").is_dir():
            return folder
    raise FileNotFoundError(f"sql/ is neither in {package} nor beside it; install pgvmig again")


def files(folder: str) -> list[Path]:
    """Return the files of `sql/<folder>` in their order."""
    return sorted((root() / folder).glob("*.sql"))


def statements(path: Path) -> list[str]:
    """Return a file's statements, each with the comment above it and without its semicolon."""
    return [part.strip() for part in _END.split(path.read_text(encoding="utf-8")) if part.strip()]


@cache
def _blocks(file: str) -> dict[str, str]:
    parts = _NAME.split((root() / "queries" / f"{file}.sql").read_text(encoding="utf-8"))
    return {name: text.strip() for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def query(file: str, name: str, **parts: Any) -> sql.Composed:
    """Return the block `name` of `sql/queries/<file>.sql` with its `{parts}` filled in.

    A part is a `psycopg.sql` object; a plain string is taken as an identifier and quoted.
    """
    filled = {key: sql.Identifier(part) if isinstance(part, str) else part for key, part in parts.items()}
    return sql.SQL(_blocks(file)[name]).format(**filled)


def qualified(schema: str, name: str) -> sql.Identifier:
    """Return `"schema"."name"`."""
    return sql.Identifier(schema, name)


def text(composed: sql.Composable) -> str:
    """Return the statement as text, quoted without a connection (for offline SQL and SQLAlchemy)."""
    return composed.as_string(None)


def escaped(part: sql.Composable) -> sql.SQL:
    """Return names and literals for a statement with parameters, in which psycopg takes a bare % for a placeholder."""
    return sql.SQL(text(part).replace("%", "%%"))
