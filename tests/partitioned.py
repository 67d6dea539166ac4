"""Partitioned tables for tests, and what PostgreSQL does with them behind a trigger's back."""

from __future__ import annotations

from backfilling import Site

COLUMNS = "CREATE TABLE documents (id bigint, day integer, note text, body text, "

# The leaves have their columns in another order than the table, and one has lost a column that it once had.
RANGE = (
    COLUMNS + "PRIMARY KEY (id, day)) PARTITION BY RANGE (day)",
    "CREATE TABLE documents_1 (body text, gone text, day integer NOT NULL, id bigint NOT NULL, note text)",
    "ALTER TABLE documents_1 DROP COLUMN gone",
    "ALTER TABLE documents ATTACH PARTITION documents_1 FOR VALUES FROM (0) TO (100)",
    "CREATE TABLE documents_2 PARTITION OF documents FOR VALUES FROM (100) TO (200)",
)
LIST = (
    COLUMNS + "PRIMARY KEY (id, day)) PARTITION BY LIST (day)",
    "CREATE TABLE documents_1 PARTITION OF documents FOR VALUES IN (1) PARTITION BY HASH (id)",
    "CREATE TABLE documents_1_0 PARTITION OF documents_1 FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
    "CREATE TABLE documents_1_1 PARTITION OF documents_1 FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
    "CREATE TABLE documents_2 PARTITION OF documents DEFAULT",
)
HASH = (
    COLUMNS + "PRIMARY KEY (day, id)) PARTITION BY HASH (id)",
    *(
        f"CREATE TABLE documents_{n} PARTITION OF documents FOR VALUES WITH (MODULUS 3, REMAINDER {n})"
        for n in range(3)
    ),
)


def documents(site: Site, definition: tuple[str, ...] = RANGE, rows: int = 60) -> None:
    """Create the table with that many rows in every partition of the range."""
    for statement in definition:
        site.execute(statement)
    insert(site, 1, rows)
    insert(site, 101, rows)


def insert(site: Site, day: int, rows: int, table: str = "documents") -> None:
    """Insert passages of that day, with ids of their own."""
    site.execute(
        f"INSERT INTO {table} (id, day, body) SELECT 1000 * {day} + i, {day}, 'passage ' || {day} || '/' || i "
        f"|| repeat(' and so on', 20) FROM generate_series(1, {rows}) AS i"
    )
