"""The contract: what defines a vector space, frozen. Pure: no database, no provider.

Two vectors may be compared only when they were made under the same contract, to the last field. The fingerprint is
the contract's identity; whatever changes it is another space and needs another version.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from pgvmig.errors import ContractError

METRICS = ("cosine", "l2", "inner_product", "l1")
VECTOR_TYPES = ("vector", "halfvec")
TOO_LONG = ("error", "truncate")

_NO_TEXT = re.compile("[\0\ud800-\udfff]")

MAX_DIMENSIONS = 16_000
# HNSW and IVFFlat take no more; pgvector refuses at CREATE INDEX, which is after the API bill. A bit for each component
# can be indexed of any vector, see index_plan.py.
MAX_INDEXED = {"vector": 2_000, "halfvec": 4_000}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What makes a vector space. Build it with `Contract.of(mapping)`, which checks and fills in defaults.

    `input` is an immutable SQL expression over the row; `dimensions` counts components; `max_input` counts
    characters. `document_prefix` and `query_prefix` are put before the text that goes to the provider and are not
    part of `source_hash`.
    """

    model: str
    model_version: str
    dimensions: int
    input: str
    provider: str = "openai"
    metric: str = "cosine"
    vector_type: str = "vector"
    document_prefix: str = ""
    query_prefix: str = ""
    normalized: bool = True
    max_input: int | None = None
    too_long: str = "error"
    preprocessing: str = "none"
    chunking: str = "none"

    @classmethod
    def of(cls, given: Mapping[str, Any] | Contract) -> Contract:
        """Return the checked contract.

        Raises ContractError naming the key, what was found and what is allowed.
        """
        if isinstance(given, Contract):
            return given
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(given) - known)
        if unknown:
            meant = difflib.get_close_matches(unknown[0], known, n=1)
            raise ContractError(
                f"the contract has no key {unknown[0]!r}",
                hazard="A misspelt key would silently leave its default in force",
                next_step=f"{f'did you mean {meant[0]!r}? ' if meant else ''}use one of {', '.join(sorted(known))}",
                key=unknown[0],
            )
        missing = [name for name in ("model", "model_version", "dimensions", "input") if given.get(name) is None]
        if missing:
            raise ContractError(
                f"the contract lacks {', '.join(missing)}",
                hazard="Without them nobody can tell later which space the vectors are in",
                next_step=f"add {missing[0]!r} to the contract",
                key=missing[0],
            )
        contract = cls(**{**_default_vector_type(given), **given})
        _check(contract)
        return contract

    @property
    def halfvec_by_itself(self) -> bool:
        """Whether the dimensions are why the vectors are halfvec."""
        return self.vector_type == "halfvec" and self.dimensions > MAX_INDEXED["vector"]

    @property
    def ranks_by_bits(self) -> bool:
        """Whether the signs of the components say roughly which vectors are near: they know angles and no lengths."""
        return self.metric == "cosine" or (self.normalized and self.metric in ("l2", "inner_product"))

    def as_dict(self) -> dict[str, Any]:
        """Return every field, defaults included, in declaration order."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def canonical(self) -> str:
        """Return the canonical form: JSON, keys sorted, no white space, UTF-8 (the rules of RFC 8785 that apply)."""
        return json.dumps(self.as_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical form, 64 hexadecimal digits."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    def diff(self, other: Contract) -> list[tuple[str, Any, Any]]:
        """Return (field, here, there) for each field in which the two differ."""
        return [
            (field.name, getattr(self, field.name), getattr(other, field.name))
            for field in fields(self)
            if getattr(self, field.name) != getattr(other, field.name)
        ]


def render_diff(old: Contract, new: Contract) -> str:
    """Return the difference as lines `field: old -> new`, and what follows from it."""
    changes = old.diff(new)
    if not changes:
        return f"same space ({old.fingerprint[:12]})"
    width = max(len(name) for name, _, _ in changes)
    lines = [f"{name:<{width}}  {before!r} -> {after!r}" for name, before, after in changes]
    return "\n".join(
        [
            *lines,
            f"another space: {old.fingerprint[:12]} -> {new.fingerprint[:12]}, every row is embedded again",
        ]
    )


def why_halfvec(dimensions: int) -> str:
    """Return what is to be said where the dimensions chose the type."""
    way = "halfvec" if dimensions <= MAX_INDEXED["halfvec"] else "binary"
    return (
        f"{dimensions:,} dimensions are kept as halfvec, two bytes each, because an index takes "
        f"{MAX_INDEXED['vector']:,} as vector; for four bytes each say vector_type='vector' and build the index with "
        f"quantize='{way}'"
    )


def _default_vector_type(given: Mapping[str, Any]) -> dict[str, str]:
    dimensions = given.get("dimensions")
    if isinstance(dimensions, int) and dimensions > MAX_INDEXED["vector"]:
        return {"vector_type": "halfvec"}
    return {}


def _check(contract: Contract) -> None:
    _check_types(contract)
    _check_versions(contract)
    _check_choice("metric", contract.metric, METRICS)
    _check_choice("vector_type", contract.vector_type, VECTOR_TYPES)
    _check_choice("too_long", contract.too_long, TOO_LONG)
    _check_dimensions(contract)
    if not contract.input.strip():
        raise ContractError("input is empty", next_step="give an SQL expression over the row, such as 'title || body'")
    if contract.max_input is not None and contract.max_input < 1:
        raise ContractError(f"max_input is {contract.max_input}", next_step="give a number of characters from 1 up")


_TYPE_ADVICE = {
    "dimensions": "write a number, without quotes",
    "max_input": "write a number, without quotes",
    "normalized": "write True or False, without quotes",
}


def _check_types(contract: Contract) -> None:
    wanted: dict[str, type] = {"dimensions": int, "normalized": bool}
    for field in fields(contract):
        value = getattr(contract, field.name)
        if field.name == "max_input":
            right = value is None or (isinstance(value, int) and not isinstance(value, bool))
        else:
            kind = wanted.get(field.name, str)
            right = type(value) is kind
        if not right:
            raise ContractError(
                f"{field.name} is {value!r}, a {type(value).__name__}",
                next_step=_TYPE_ADVICE.get(field.name, "write a text, in quotes"),
            )
        if isinstance(value, str) and _NO_TEXT.search(value):
            raise ContractError(
                f"{field.name} holds a character that is no text (NUL or half of a surrogate pair)",
                hazard="PostgreSQL's text cannot store it",
            )


def _check_versions(contract: Contract) -> None:
    if not contract.model.strip():
        raise ContractError("model is empty", next_step="name the model as its provider does")
    if contract.model_version.strip().lower() in {"", "latest"}:
        raise ContractError(
            f"model_version is {contract.model_version!r}",
            hazard="What `latest` means changes at the provider, and the vectors of two meanings do not compare",
            next_step="pin the model's version or release date, such as '2024-01-25'",
        )


def _check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ContractError(f"{name} is {value!r}", next_step=f"use one of {', '.join(allowed)}", key=name)


def _check_dimensions(contract: Contract) -> None:
    if not 1 <= contract.dimensions <= MAX_DIMENSIONS:
        raise ContractError(
            f"dimensions is {contract.dimensions:,}", next_step=f"give a number from 1 to {MAX_DIMENSIONS:,}"
        )
    limit = MAX_INDEXED["halfvec"]
    if contract.dimensions > limit and not contract.ranks_by_bits:
        lengths = "" if contract.metric == "l1" else " of vectors that need not have unit length"
        raise ContractError(
            f"{contract.dimensions:,} dimensions under {contract.metric}{lengths}: an index takes {limit:,}, or a "
            "bit of each, and bits rank by angle only",
            hazard="Found at CREATE INDEX it would come after the whole embedding bill",
            next_step="ask for fewer dimensions (many models shorten on request), or metric 'cosine'",
            key="dimensions",
        )
