"""What tests of `pgvmig adopt` share: a table whose application has filled its vector column."""

from __future__ import annotations

from typing import Any

from backfilling import Site

WHO = ("--provider", "new", "--model", "hash", "--model-version", "1", "--input", "body")


def literal(site: Site, provider: str, text: str, factor: float = 1.0) -> str:
    """Return what a provider's model makes of a text, as PostgreSQL reads it."""
    (vector,) = site.server.models[provider].embed([text])
    return str([float(component) * factor for component in vector])


def fill(
    site: Site, rows: range, provider: str = "new", column: str = "embedding", factor: float = 1.0, **more: Any
) -> None:
    """Insert rows as an application does that embeds by itself."""
    names = ", ".join(["id", "body", column, *more])
    places = ", ".join(["%s"] * (3 + len(more)))
    for number in rows:
        vector = literal(site, provider, f"text {number}", factor)
        values = [value(number) if callable(value) else value for value in more.values()]
        site.execute(f"INSERT INTO documents ({names}) VALUES ({places})", number, f"text {number}", vector, *values)


def versions(site: Site) -> list[tuple[Any, ...]]:
    """Return the versions that there are."""
    return site.execute("SELECT version, state, writer, vector_column FROM pgvmig.version ORDER BY 1").fetchall()
