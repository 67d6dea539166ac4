"""Table shapes that the suite takes through a whole life; docs/tables.md is written from this list."""

from __future__ import annotations

from shape import Row, Shape
from shapes_keys import KEYS
from shapes_names import NAMES
from shapes_others import AROUND, RIGHTS

SHAPES: list[Shape] = [*KEYS, *NAMES, *AROUND, *RIGHTS]

# What a test of its own shows, in both layouts.
SLOTS = Row("Columns", "several embeddings (slots)", "also of two layouts; neither touches the other")
