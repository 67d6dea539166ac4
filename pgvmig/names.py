"""Names that others script against: targets, views, columns. Pure.

A target is `[schema.]table[.slot]`. Names are made from the table's, and cut where PostgreSQL would cut them
silently.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from pgvmig.errors import UsageError

DEFAULT_SLOT = "embedding"
# NAMEDATALEN - 1; PostgreSQL cuts longer names without an error, and two cut names may be the same.
MAX_BYTES = 63

_PART = re.compile(r'\s*(?:"((?:[^"]|"")+)"|([^\s".](?:[^".]*[^\s".])?))\s*(\.|$)')
# What would be read as something else, by us or by a shell; sql/functions/10_names.sql has the same.
_QUOTED = re.compile(r'[ \t\r\n".]')
_VERSION = re.compile(r"v[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True)
class Target:
    """What the user named: a table, perhaps its schema, perhaps a slot. None where not given."""

    parts: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read `[schema.]table[.slot]`, each part plain or in double quotes as in SQL.

        Unlike SQL, unquoted parts keep their case: a shell user who types `Documents` means that table.
        Raises UsageError.
        """
        parts, position = [], 0
        while position <= len(text):
            match = _PART.match(text, position)
            if match is None:
                break
            quoted, plain, end = match.groups()
            parts.append(quoted.replace('""', '"') if quoted else plain)
            position = match.end()
            if end == "":
                if len(parts) <= 3:  # noqa: PLR2004
                    return cls(tuple(parts))
                break
        raise UsageError(f"{text!r} is not a target", next_step="write [schema.]table[.slot], such as documents")

    def readings(self) -> list[tuple[str | None, str, str]]:
        """Return what it can mean as (schema or None, table, slot), the likeliest first."""
        match self.parts:
            case (table,):
                return [(None, table, DEFAULT_SLOT)]
            case (first, second):
                return [(first, second, DEFAULT_SLOT), (None, first, second)]
            case (schema, table, slot):
                return [(schema, table, slot)]
        raise AssertionError(self.parts)


def check_version(version: str) -> str:
    """Return the version's name. Raises UsageError unless it is `v1`, `v2`…"""
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise UsageError(f"{version!r} is not a version's name", next_step="write v1, v2 and so on")
    return version


def fit(name: str) -> str:
    """Return the name, or where it has over 63 bytes its beginning and a hash of the whole."""
    raw = name.encode()
    if len(raw) <= MAX_BYTES:
        return name
    tail = "_" + hashlib.sha256(raw).hexdigest()[:8]
    return raw[: MAX_BYTES - len(tail)].decode(errors="ignore") + tail


def view_name(table: str, slot: str, version: str) -> str:
    """Return the name of a version's view; version `current` gives the current view's."""
    middle = "" if slot == DEFAULT_SLOT else f"_{slot}"
    return fit(f"{table}{middle}_{version}")


def current_view_name(table: str, slot: str) -> str:
    """Return the name of the current view."""
    return view_name(table, slot, "current")


def vector_column(slot: str, version: str) -> str:
    """Return the vector's column in the column layout."""
    return fit(f"{slot}_{version}")


def vector_table(table: str, slot: str, version: str) -> str:
    """Return the table of a version's vectors in the table layout."""
    middle = "" if slot == DEFAULT_SLOT else f"_{slot}"
    return fit(f"{table}{middle}_{version}_vectors")


def key_column(column: str) -> str:
    """Return what tables of ours that are keyed like the user's rows call a key column."""
    return fit(f"key_{column}")


def provenance_columns(vector: str) -> tuple[str, str, str]:
    """Return the columns beside a vector: its version id, source hash and time."""
    return fit(f"{vector}_version_id"), fit(f"{vector}_source_hash"), fit(f"{vector}_embedded_at")


def view_columns(slot: str) -> tuple[str, ...]:
    """Return the columns that a view adds to the table's, in their order."""
    return (
        slot,
        *(fit(f"{slot}_{suffix}") for suffix in ("space", "model", "model_version", "source_hash", "embedded_at")),
    )


def label(table: str, slot: str, schema: str | None = None) -> str:
    """Return how messages name a target: the schema only where it is not `public`, the slot only where special.

    Names with spaces, dots or quotes stand in double quotes, as commands read them.
    """
    parts = [*([] if schema in (None, "public") else [schema]), table, *([] if slot == DEFAULT_SLOT else [slot])]
    return ".".join('"' + part.replace('"', '""') + '"' if _QUOTED.search(part) else part for part in parts)
