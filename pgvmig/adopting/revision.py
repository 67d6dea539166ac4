"""The operation that a revision adopts the column with, as text with literals. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pgvmig.adding import Facts
from pgvmig.address import Address
from pgvmig.contract import Contract
from pgvmig.names import DEFAULT_SLOT

_ALWAYS = ("provider", "model", "model_version", "dimensions", "metric", "input")


def render(where: Address, column: str, contract: Contract, facts: Facts, writer: str) -> str:
    """Return `upgrade` and `downgrade` of a revision; columns and key stand in it, for `--sql`."""
    place = _place(where)
    more: dict[str, Any] = {} if writer == "application" else {"writer": writer}
    more |= {"columns": [column.name for column in facts.columns], "key": [column.name for column in facts.key]}
    return "\n".join(
        [
            "def upgrade():",
            "    op.adopt_embedding(",
            *(f"        {part!r}," for part in (where.table.name, where.version, column)),
            *_mapping(_said(contract)),
            *(f"        {name}={value!r}," for name, value in (more | place).items()),
            "    )",
            "",
            "",
            "def downgrade():",
            f"    op.release_embedding({_arguments(where, place)})",
        ]
    )


def _place(where: Address) -> dict[str, str]:
    place = {} if where.table.schema in (None, "public") else {"schema": str(where.table.schema)}
    return place | ({} if where.slot == DEFAULT_SLOT else {"slot": where.slot})


def _arguments(where: Address, place: Mapping[str, str]) -> str:
    return ", ".join(
        [repr(where.table.name), repr(where.version), *(f"{name}={value!r}" for name, value in place.items())]
    )


def _said(contract: Contract) -> dict[str, Any]:
    """Return what a reader must see, and what is not the default."""
    plain = Contract(model="", model_version="", dimensions=contract.dimensions, input="")
    defaults = plain.as_dict()
    return {name: value for name, value in contract.as_dict().items() if name in _ALWAYS or value != defaults[name]}


def _mapping(contract: Mapping[str, Any]) -> list[str]:
    return ["        {", *(f"            {name!r}: {value!r}," for name, value in contract.items()), "        },"]
