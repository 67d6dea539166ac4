"""The operations on a version, as data: what a revision says; switch_ops.py has those that gates guard.

Executing them is toimpl.py's part.

Alembic compiles the signatures again as text, so they start `(cls, operations, ...)` and their defaults are plain.
Every operation has `to_diff_tuple()` for `alembic check`, and `reverse()`. What takes away can be turned round only
where it came from turning round what added it, as in autogenerate: nothing else knows the contract.
"""

from __future__ import annotations

from typing import Any

from alembic.operations import MigrateOperation, Operations

from pgvmig.alembic_plugin.embedding_op import EmbeddingOp
from pgvmig.contract import Contract


@Operations.register_operation("add_embedding")
class AddEmbeddingOp(EmbeddingOp):
    """Add a version."""

    name = "add_embedding"

    def __init__(
        self,
        table: str,
        version: str,
        contract: dict[str, Any] | Contract,
        layout: str = "column",
        columns: list[str] | None = None,
        key: list[str] | None = None,
        schema: str | None = None,
        slot: str = "embedding",
        search: dict[str, Any] | str | None = None,
    ) -> None:
        super().__init__(table, version, schema, slot)
        self.contract = contract
        self.layout = layout
        self.columns = columns
        self.key = key
        self.search = search

    @classmethod
    def add_embedding(
        cls,
        operations: Operations,
        table: str,
        version: str,
        contract: dict[str, Any],
        layout: str = "column",
        columns: list[str] | None = None,
        key: list[str] | None = None,
        schema: str | None = None,
        slot: str = "embedding",
        search: dict[str, Any] | str | None = None,
    ) -> None:
        """Add a version: its vector and provenance, its view, and the triggers that follow the table.

        Layout `column` puts the vectors beside the rows, which the backfill then updates; `table` puts them into a
        table of the version's own, and the backfill touches no row. `pgvmig plan` says which suits a table. Nothing is
        embedded and no row is rewritten here; `pgvmig backfill` fills it. For `--sql` name the `columns` that the
        views show and the `key`; online both may be left out. `search` is how services shall search it, such as
        `{"ef_search": 100}`: it switches with the version.
        """
        operations.invoke(cls(table, version, contract, layout, columns, key, schema, slot, search))

    def reverse(self) -> MigrateOperation:
        """Return the downgrade."""
        return self.undone_by(DropEmbeddingOp(self.table, self.version, self.schema, self.slot))

    def details(self) -> tuple[Any, ...]:
        """Return the contract as it is compared."""
        return (Contract.of(self.contract).as_dict(),)


@Operations.register_operation("set_embedding_search")
class SetEmbeddingSearchOp(EmbeddingOp):
    """Change how a version is searched."""

    name = "set_embedding_search"

    def __init__(
        self, table: str, version: str, search: dict[str, Any] | str, schema: str | None = None, slot: str = "embedding"
    ) -> None:
        super().__init__(table, version, schema, slot)
        self.search = search

    def details(self) -> tuple[Any, ...]:
        """Return the settings."""
        return (self.search,)

    @classmethod
    def set_embedding_search(
        cls,
        operations: Operations,
        table: str,
        version: str,
        search: dict[str, Any] | str,
        schema: str | None = None,
        slot: str = "embedding",
    ) -> None:
        """Replace the version's search settings, which `pgvmig.active_space()` hands to services: `ef_search`,
        `probes`, `iterative_scan`, `max_scan_tuples`, and the services' own `filters`, `hybrid` and `reranker`. The
        downgrade is the same operation with what was there before.
        """
        operations.invoke(cls(table, version, search, schema, slot))


@Operations.register_operation("drop_embedding")
class DropEmbeddingOp(EmbeddingOp):
    """Undo add_embedding."""

    name = "drop_embedding"

    @classmethod
    def drop_embedding(
        cls, operations: Operations, table: str, version: str, schema: str | None = None, slot: str = "embedding"
    ) -> None:
        """Undo `add_embedding`. Refused while it would destroy vectors, unless `-x pgvmig_drop=documents.v2`."""
        operations.invoke(cls(table, version, schema, slot))


@Operations.register_operation("adopt_embedding")
class AdoptEmbeddingOp(EmbeddingOp):
    """Adopt the vectors that a table has."""

    name = "adopt_embedding"

    def __init__(
        self,
        table: str,
        version: str,
        column: str,
        contract: dict[str, Any] | Contract,
        writer: str = "application",
        columns: list[str] | None = None,
        key: list[str] | None = None,
        schema: str | None = None,
        slot: str = "embedding",
    ) -> None:
        super().__init__(table, version, schema, slot)
        self.column = column
        self.contract = contract
        self.writer = writer
        self.columns = columns
        self.key = key

    @classmethod
    def adopt_embedding(
        cls,
        operations: Operations,
        table: str,
        version: str,
        column: str,
        contract: dict[str, Any],
        writer: str = "application",
        columns: list[str] | None = None,
        key: list[str] | None = None,
        schema: str | None = None,
        slot: str = "embedding",
    ) -> None:
        """Take the vectors that `column` already has as a version, active from now on, without rewriting a row.

        With the writer `application` the service goes on writing them; after a cutover the worker takes over.
        `pgvmig adopt --print-revision` writes this call, after it has compared a sample with what the model makes.
        """
        operations.invoke(cls(table, version, column, contract, writer, columns, key, schema, slot))

    def reverse(self) -> MigrateOperation:
        """Return the downgrade."""
        return self.undone_by(ReleaseEmbeddingOp(self.table, self.version, self.schema, self.slot))

    def details(self) -> tuple[Any, ...]:
        """Return the column, and the contract as it is compared."""
        return (self.column, Contract.of(self.contract).as_dict())


@Operations.register_operation("release_embedding")
class ReleaseEmbeddingOp(EmbeddingOp):
    """Undo adopt_embedding."""

    name = "release_embedding"

    @classmethod
    def release_embedding(
        cls, operations: Operations, table: str, version: str, schema: str | None = None, slot: str = "embedding"
    ) -> None:
        """Undo `adopt_embedding`: pgvmig leaves the table, the column and its vectors stay."""
        operations.invoke(cls(table, version, schema, slot))


@Operations.register_operation("index_embedding")
class IndexEmbeddingOp(EmbeddingOp):
    """Build a version's index."""

    name = "index_embedding"

    def __init__(
        self,
        table: str,
        version: str,
        method: str = "hnsw",
        options: dict[str, Any] | None = None,
        schema: str | None = None,
        slot: str = "embedding",
        quantize: str | None = None,
        after_backfill: bool = False,
    ) -> None:
        super().__init__(table, version, schema, slot)
        self.method = method
        self.options = options
        self.quantize = quantize
        self.after_backfill = after_backfill

    @classmethod
    def index_embedding(
        cls,
        operations: Operations,
        table: str,
        version: str,
        method: str = "hnsw",
        options: dict[str, Any] | None = None,
        schema: str | None = None,
        slot: str = "embedding",
        quantize: str | None = None,
        after_backfill: bool = False,
    ) -> None:
        """Build the version's index CONCURRENTLY, after its backfill; `options` are the access method's, such as `m`.

        Refused while more than a tenth of the rows has no vector, unless `-x pgvmig_early_index=documents.v2`. With
        `after_backfill` it is recorded instead, as in the revision that adds the version: `pgvmig index` builds it
        then, and a cutover asks for it. `quantize` makes the index one over smaller vectors: `halfvec`, or `binary`,
        whose searches rank again by the vectors themselves.
        """
        operations.invoke(cls(table, version, method, options, schema, slot, quantize, after_backfill))

    def reverse(self) -> MigrateOperation:
        """Return the downgrade."""
        if self.opposite is not None:  # the index that there was before
            return self.opposite
        return self.undone_by(DropEmbeddingIndexOp(self.table, self.version, self.method, self.schema, self.slot))

    def details(self) -> tuple[Any, ...]:
        """Return what index it is."""
        return (self.method, self.options or {}, self.quantize)


@Operations.register_operation("drop_embedding_index")
class DropEmbeddingIndexOp(EmbeddingOp):
    """Undo index_embedding."""

    name = "drop_embedding_index"

    def __init__(
        self,
        table: str,
        version: str,
        method: str = "hnsw",
        schema: str | None = None,
        slot: str = "embedding",
        version_stays: bool = False,
    ) -> None:
        super().__init__(table, version, schema, slot)
        self.method = method
        self.version_stays = version_stays

    @classmethod
    def drop_embedding_index(
        cls,
        operations: Operations,
        table: str,
        version: str,
        method: str = "hnsw",
        schema: str | None = None,
        slot: str = "embedding",
        version_stays: bool = False,
    ) -> None:
        """Undo `index_embedding`, CONCURRENTLY, on the way down to `drop_embedding`.

        When that is refused, the index would be gone already. So this is refused before: while the version has vectors,
        unless `-x pgvmig_drop=documents.v2` gives them up, and while it is active or the way back.
        `version_stays=True` drops the index alone; autogenerate writes it where a model no longer declares one. For
        one run, `-x pgvmig_drop_index=documents.v2` says the same.
        """
        operations.invoke(cls(table, version, method, schema, slot, version_stays))
