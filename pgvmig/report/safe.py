"""Texts from the database as a page may show them. They are anybody's: long, unbroken, or written to mislead.

HTML is escaped by the template; here is what escaping leaves: length, and characters that are not seen but change
what is.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

# A passage is recognised by its beginning; a page of whole documents nobody reads.
PASSAGE = 240
LINE = 200

# Joiners are part of how some scripts and emoji are spelled; alone they mislead nobody.
_JOINERS = {"\u200c", "\u200d"}
_HIDDEN = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}


@dataclass(frozen=True, slots=True)
class Shown:
    """A text as it is shown: its beginning, and how many characters it has in all."""

    text: str
    characters: int

    @property
    def cut(self) -> bool:
        """Whether there is more of it than is shown."""
        return self.characters > len(self.text)


def shown(text: str, most: int = PASSAGE, characters: int | None = None) -> Shown:
    """Return the text's beginning, made safe. `characters`: how long it is, where only its beginning was read."""
    whole = len(text) if characters is None else characters
    if whole <= most:
        return Shown(visible(text), len(visible(text)))
    return Shown(visible(text[:most]), max(whole, most + 1))


def line(text: object, most: int = LINE) -> str:
    """Return any value as one line of at most so many characters, an ellipsis at its end when it was longer."""
    whole = " ".join(visible(str(text)).split())
    return whole if len(whole) <= most else whole[: most - 1].rstrip() + "…"


def visible(text: str) -> str:
    """Return the text with its controls and direction marks spelled out; new lines and tabs become spaces."""
    if text.isprintable() and not any(character in text for character in "\u200e\u200f"):
        return text
    return "".join(_spelled(character) for character in text)


def _spelled(character: str) -> str:
    if character in "\n\r\t":
        return " "
    if character in _JOINERS or unicodedata.category(character) not in _HIDDEN:
        return character
    return f"⟨U+{ord(character):04X}⟩"
