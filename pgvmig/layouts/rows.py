"""Rows of the user's table as data, whatever the layout."""

from __future__ import annotations

from dataclasses import dataclass

from pgvmig.catalog.keys import Key


@dataclass(frozen=True, slots=True)
class Place:
    """A row that needs a vector, and the page of the table on which it was found."""

    key: Key
    block: int


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A row's text as it was read. `fresh`: its vector is of this text. `recorded`: an outcome is, for this text."""

    key: Key
    text: str
    source_hash: bytes
    fresh: bool = False
    recorded: bool = False
