"""What a service declares: the contract of an embedding, once, beside the table it belongs to.

    class Document(Base):
        __tablename__ = "documents"
        __table_args__ = (
            Embedding(model="text-embedding-3-small", model_version="2024-01-25", dimensions=1536, input="body"),
        )

`alembic revision --autogenerate` writes the migration from it; see docs/alembic.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import MetaData
from sqlalchemy.schema import SchemaItem

from pgvmig.contract import Contract
from pgvmig.errors import ContractError, UsageError
from pgvmig.index_plan import IndexPlan
from pgvmig.names import DEFAULT_SLOT

_INFO = "pgvmig"
LAYOUTS = ("column", "table")


class Embedding(SchemaItem):
    """An embedding of a table, as an argument of `Table`, in `__table_args__`, or given to `declare`.

    `contract` are the keys of the contract (`model`, `model_version`, `dimensions`, `input`, ...); a change of any of
    them is another space, for which autogenerate adds the next version. `layout` is where a new version's vectors
    live. `adopt` is the column whose vectors become the first version. `index` is the access method of its index, None
    for none, with its `index_options`, and `quantize` (`halfvec`, `binary`) for an index over smaller vectors. `search`
    is how services shall search it, None for leaving that to whoever operates it. Raises ContractError and UsageError.
    """

    __visit_name__ = "pgvmig_embedding"

    def __init__(
        self,
        *,
        slot: str = DEFAULT_SLOT,
        layout: str = "column",
        adopt: str | None = None,
        index: str | None = "hnsw",
        index_options: Mapping[str, Any] | None = None,
        quantize: str | None = None,
        search: Mapping[str, Any] | None = None,
        **contract: Any,
    ) -> None:
        if layout not in LAYOUTS:
            raise UsageError(f"layout is {layout!r}", next_step=f"use one of {', '.join(LAYOUTS)}")
        self.slot = slot
        self.layout = layout
        self.adopt = adopt
        self.index = index
        self.index_options = dict(index_options or {})
        self.quantize = quantize
        self.search = None if search is None else dict(search)
        self.contract = Contract.of(contract)
        if index is not None:
            IndexPlan.of(self.contract, index, self.index_options, quantize)
        self.given = dict(contract)

    def _set_parent(self, parent: Any, **_: Any) -> None:
        _keep(parent.metadata, parent.schema, parent.name, self)


def declare(metadata: MetaData, table: str, embedding: Embedding, schema: str | None = None) -> None:
    """Declare an embedding of a table that the metadata does not describe: plain `MetaData`, no model."""
    _keep(metadata, schema or metadata.schema, table, embedding)


def declared(metadata: MetaData) -> Iterator[tuple[str | None, str, Embedding]]:
    """Yield (schema, table, embedding) for each that the metadata declares."""
    for (schema, table), slots in metadata.info.get(_INFO, {}).items():
        for embedding in slots.values():
            yield schema, table, embedding


# With the metadata and not with the table: Alembic writes a table's info into op.create_table().
def _keep(metadata: MetaData, schema: str | None, table: str, embedding: Embedding) -> None:
    slots = metadata.info.setdefault(_INFO, {}).setdefault((schema, table), {})
    if embedding.slot in slots:
        raise ContractError(
            f"{table} declares two embeddings in the slot {embedding.slot!r}",
            hazard="Only one of them could be the active version's",
            next_step="give each a slot of its own: Embedding(slot='summary', ...)",
        )
    slots[embedding.slot] = embedding
