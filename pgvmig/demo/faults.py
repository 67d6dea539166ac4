"""What an embedding provider does wrong, as plain data, and the doing of it. For the model server and its tests."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

from pgvmig.demo.models import Vectors

Kind = Literal[
    "latency",  # only late
    "status",  # an HTTP error instead of an answer
    "drop",  # the connection ends without an answer
    "cut",  # the connection ends in the middle of the answer
    "garbage",  # status 200 and something that is no JSON
    "short",  # a vector too few
    "extra",  # a vector too many
    "shuffled",  # the vectors in another order, each with its own index
    "duplicate_index",  # an index twice, another not at all
    "dimensions",  # a component too few
    "nan",
    "infinity",
    "zero",
    "norm",  # not of unit length
]
Item: TypeAlias = tuple[int, Vectors]  # index, vector

_NEED_TWO_TEXTS = {"shuffled", "duplicate_index"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing to go wrong, `times` over (None: from now on).

    It waits for a request to `provider` (None: any) in which `containing`, a regular expression, finds a text.
    `seconds` pass first, whatever the kind. `status`, `headers` and `message` belong to the kind `status`. What
    touches a vector touches the batch's last one, or with `every` all of them.
    """

    kind: Kind
    times: int | None = 1
    seconds: float = 0.0
    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    message: str | None = None
    every: bool = False
    provider: str | None = None
    containing: str | None = None

    def fits(self, provider: str, texts: Sequence[str]) -> bool:
        """Whether this request is one for the fault; one that needs two vectors to show waits for two."""
        if self.provider not in (None, provider) or (self.kind in _NEED_TWO_TEXTS and len(texts) < 2):  # noqa: PLR2004
            return False
        return self.containing is None or any(re.search(self.containing, text) for text in texts)


class Faults:
    """The faults to come, in order. Each request takes the first that fits it; falsy when all have been taken."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._lock = threading.Lock()
        self._waiting: list[tuple[Fault, int | None]] = []
        self.extend(faults)

    def append(self, fault: Fault) -> None:
        with self._lock:
            self._waiting.append((fault, fault.times))

    def extend(self, faults: Iterable[Fault]) -> None:
        for fault in faults:
            self.append(fault)

    def clear(self) -> None:
        with self._lock:
            self._waiting.clear()

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, provider: str, texts: Sequence[str]) -> Fault | None:
        """Return the fault for this request, or None, and count it."""
        with self._lock:
            for position, (fault, left) in enumerate(self._waiting):
                if fault.fits(provider, texts):
                    remaining = None if left is None else left - 1
                    self._waiting[position : position + 1] = [] if remaining == 0 else [(fault, remaining)]
                    return fault
        return None


def tamper(fault: Fault, items: list[Item]) -> list[Item]:
    """Return the answer's items as the fault would have them; unchanged for faults that are not about items."""
    if fault.kind in _ON_ITEMS:
        return _ON_ITEMS[fault.kind](items)
    if fault.kind in _ON_VECTORS:
        change = _ON_VECTORS[fault.kind]
        untouched = 0 if fault.every else len(items) - 1
        return [*items[:untouched], *((index, change(vector)) for index, vector in items[untouched:])]
    return items


def _with_first(value: float) -> Callable[[Vectors], Vectors]:
    return lambda vector: np.concatenate([np.array([value], dtype=np.float32), vector[1:]])


_ON_ITEMS: dict[str, Callable[[list[Item]], list[Item]]] = {
    "short": lambda items: items[:-1],
    "extra": lambda items: [*items, (len(items), items[-1][1])],
    "shuffled": lambda items: items[::-1],
    "duplicate_index": lambda items: [*items[:-1], (0, items[-1][1])],
}
_ON_VECTORS: dict[str, Callable[[Vectors], Any]] = {
    "dimensions": lambda vector: vector[:-1],
    "nan": _with_first(float("nan")),
    "infinity": _with_first(float("inf")),
    "zero": np.zeros_like,
    "norm": lambda vector: vector * np.float32(2),
}
