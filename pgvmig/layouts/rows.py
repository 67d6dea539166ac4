"""Rows of the user's table as data, whatever the layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from pgvmig.catalog.keys import Key

# What becomes of a row: it gets its vector, or none for a recorded reason.
Kind: TypeAlias = Literal["vector", "empty", "failed"]


@dataclass(frozen=True, slots=True)
class Place:
    """A row that needs a vector, the page of the table on which it was found, and how many bytes it takes there."""

    key: Key
    block: int
    room: int = 0


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A row's text as it was read. `fresh`: its vector is of this text. `recorded`: an outcome is, for this text.

    Where the layout asks for them: `row_version`, which version of the row was read; `sent`, its key as COPY takes it.
    """

    key: Key
    text: str
    source_hash: bytes
    fresh: bool = False
    recorded: bool = False
    row_version: str = ""
    sent: bytes = b""


@dataclass(frozen=True, slots=True)
class Guarded:
    """What a guard found, by position. `ours`: still what was read. `locked`: somebody is at it, try it again.

    All others were changed or deleted.
    """

    ours: list[int]
    locked: list[int]
