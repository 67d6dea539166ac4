"""Compare what a model declares of one slot with what the database has. Pure: the answer is a list of operations.

The goal is the declaration, and the database is on the way to it as soon as a version with that contract is its newest.
So nothing is to be done during a backfill, before a cutover, after one, and after a rollback that nobody declared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from alembic.operations import MigrateOperation

from pgvmig.alembic_plugin import ops, switch_ops
from pgvmig.alembic_plugin.notice import NoticeOp, log, noticed
from pgvmig.alembic_plugin.recorded import Place, RecordedSlot, RecordedVersion
from pgvmig.contract import Contract
from pgvmig.index_plan import IndexPlan
from pgvmig.lifecycle import State
from pgvmig.names import label
from pgvmig.runner import Row
from pgvmig.sqlalchemy import Embedding

# A text, a quoted name, or a name that is not a function's.
_TOKEN = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|(?<![\w$])[^\W\d][\w$]*(?![\w$]|\s*\()""")
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A declared embedding, the slot as it is recorded, and what the table will look like when its turn comes.

    `columns` and `key` are None where there is no such table or key; `vectors` are the table's vector columns.
    """

    place: Place
    embedding: Embedding
    recorded: RecordedSlot | None
    columns: list[str] | None
    key: list[str] | None
    vectors: dict[str, Row]

    @property
    def label(self) -> str:
        """How messages name it: `documents`, `app.documents.title`."""
        return label(self.place[1], self.embedding.slot, self.place[0])

    def named(self, version: str) -> dict[str, Any]:
        """Return the arguments that name a version in an operation."""
        schema, table = self.place
        return {"table": table, "version": version, "schema": schema, "slot": self.embedding.slot}


def compare(subject: Subject) -> Sequence[MigrateOperation]:
    """Return the operations that bring the database on the way to the declaration; none when it is."""
    if subject.columns is None:
        return [
            _notice(subject, "there is no such table", "declare it for a table that is there, or that a model makes")
        ]
    if subject.recorded is None or not subject.recorded.versions:
        return _first(subject)
    live = subject.recorded.live
    same = [version for version in live if _is_of(version.contract, subject.embedding.contract, subject.recorded)]
    if not same:
        return _next(subject, subject.recorded)
    wanted = same[-1]
    if wanted is live[-1] or wanted.state == State.ACTIVE:
        _say_what_is_over(subject, wanted, live)
        return [*_index(subject, wanted), *_search(subject, wanted)]
    return [_back(subject, subject.recorded, wanted)]


def _is_of(there: Contract, declared: Contract, recorded: RecordedSlot) -> bool:
    """Whether it is the declared contract, perhaps in the names that columns had before they were renamed."""
    return declared in (there, replace(there, input=with_renamed(there.input, recorded.renamed)))


def with_renamed(expression: str, renamed: Mapping[str, str]) -> str:
    """Return an SQL expression with the new names of columns; what is text in it, or a function's name, stays."""

    def followed(match: re.Match[str]) -> str:
        found = match[0]
        if found.startswith("'"):
            return found
        name = found[1:-1].replace('""', '"') if found.startswith('"') else found.lower()
        new = renamed.get(name)
        if new is None:
            return found
        return new if _PLAIN.fullmatch(new) else '"{}"'.format(new.replace('"', '""'))

    return _TOKEN.sub(followed, expression) if renamed else expression


def _first(subject: Subject) -> list[MigrateOperation]:
    column = subject.embedding.adopt
    if column is None:
        return _added(subject, "v1")
    if column not in (subject.columns or []):
        return [_notice(subject, f"there is no column {column} to adopt", "name another with adopt=, or leave it out")]
    there, wanted = subject.vectors.get(column), subject.embedding.contract
    if there is not None and (
        there["type"] != wanted.vector_type or there["dimensions"] not in (-1, wanted.dimensions)
    ):
        found = f"{there['type']}({there['dimensions']})" if there["dimensions"] > 0 else there["type"]
        return [
            _notice(
                subject,
                f"{column} is {found}, the declaration says {wanted.vector_type}({wanted.dimensions}), so the vectors "
                "there are of another model",
                "declare the model that wrote them and adopt the column; then declare the new one",
            )
        ]
    if subject.key is None:
        return [_no_key(subject)]
    log.info("Detected an embedding of %s in column %s: v1 adopts it (%s)", subject.label, column, wanted.model)
    adopt = ops.AdoptEmbeddingOp(
        column=column,
        contract=contract_of(subject.embedding),
        columns=[name for name in subject.columns or [] if name != column],
        key=subject.key,
        **subject.named("v1"),
    )
    return [adopt, *_search_of_new(subject, "v1")]


def _next(subject: Subject, recorded: RecordedSlot) -> list[MigrateOperation]:
    before = (recorded.live or recorded.versions)[-1]
    version = f"v{recorded.versions[-1].number + 1}"
    changes = ", ".join(
        f"{name} {old!r} -> {new!r}" for name, old, new in before.contract.diff(subject.embedding.contract)
    )
    log.info(
        "Detected another space for %s: %s adds it (%s)", subject.label, version, changes or f"{before.name} is retired"
    )
    return _added(subject, version)


def _added(subject: Subject, version: str) -> list[MigrateOperation]:
    embedding = subject.embedding
    if subject.recorded is None and embedding.slot in (subject.columns or []):
        return [
            _notice(
                subject,
                f"the table has a column {embedding.slot}, which is what the views call the vector",
                (f"adopt={embedding.slot!r} takes its vectors as v1; or " if embedding.slot in subject.vectors else "")
                + "name another slot with slot=",
            )
        ]
    if subject.key is None:
        return [_no_key(subject)]
    add = ops.AddEmbeddingOp(
        contract=contract_of(embedding),
        layout=embedding.layout,
        columns=subject.columns,
        key=subject.key,
        search=embedding.search,
        **subject.named(version),
    )
    if embedding.index is None:
        return [add]
    return [add, _index_op(subject, version)]


def _index(subject: Subject, version: RecordedVersion) -> list[MigrateOperation]:
    """Return what makes the index the declared one; an adopted column's is the application's until one is asked for."""
    if version.adopted and not version.planned:
        return []
    embedding, there = subject.embedding, version.index
    if embedding.index is None:
        if there is None:
            return []
        log.info("Detected that %s %s has an index that is not declared", subject.label, version.name)
        drop = ops.DropEmbeddingIndexOp(method=there.method, version_stays=True, **subject.named(version.name))
        drop.undone_by(_index_op(subject, version.name, there))
        return [drop]
    wanted = IndexPlan(embedding.index, embedding.index_options, embedding.quantize)
    if there is not None and is_same(wanted, there):
        return []
    log.info("Detected another index for %s %s", subject.label, version.name)
    change = _index_op(subject, version.name)
    change.undone_by(
        ops.DropEmbeddingIndexOp(method=wanted.method, version_stays=True, **subject.named(version.name))
        if there is None
        else _index_op(subject, version.name, there)
    )
    return [change]


def is_same(wanted: IndexPlan, there: IndexPlan) -> bool:
    """Whether two plans ask for the same index, defaults written out or not."""
    return (wanted.method, wanted.quantize) == (there.method, there.quantize) and wanted.is_met_by(there.options)


def _index_op(subject: Subject, version: str, plan: IndexPlan | None = None) -> ops.IndexEmbeddingOp:
    embedding = subject.embedding
    plan = plan or IndexPlan(embedding.index or "hnsw", embedding.index_options, embedding.quantize)
    return ops.IndexEmbeddingOp(
        method=plan.method,
        options=dict(plan.options) or None,
        quantize=plan.quantize,
        after_backfill=True,
        **subject.named(version),
    )


def _search(subject: Subject, version: RecordedVersion) -> list[MigrateOperation]:
    wanted = subject.embedding.search
    if wanted is None or wanted == version.search:
        return []
    log.info("Detected other search settings for %s %s: %s", subject.label, version.name, wanted)
    change = ops.SetEmbeddingSearchOp(search=wanted, **subject.named(version.name))
    change.undone_by(ops.SetEmbeddingSearchOp(search=version.search, **subject.named(version.name)))
    return [change]


def _search_of_new(subject: Subject, version: str) -> list[MigrateOperation]:
    if subject.embedding.search is None:
        return []
    change = ops.SetEmbeddingSearchOp(search=subject.embedding.search, **subject.named(version))
    change.undone_by(ops.SetEmbeddingSearchOp(search={}, **subject.named(version)))
    return [change]


def _back(subject: Subject, recorded: RecordedSlot, wanted: RecordedVersion) -> MigrateOperation:
    """Return the way back to an older version that is declared again: the rollback where it leads there."""
    active = recorded.active
    if active is not None and active is recorded.live[-1] and active.activated_from == wanted.name:
        log.info("Detected the contract of %s %s again: a rollback leads to it", subject.label, wanted.name)
        back = switch_ops.RollBackEmbeddingOp(force=None, **subject.named(active.name))
        back.after = active.revision
        return back
    newest = recorded.live[-1].name
    return _notice(
        subject,
        f"the declared contract is that of {wanted.name}, which is {wanted.state}, and {newest} is newer",
        f"pgvmig retire {subject.label} {newest}, or declare the contract of {newest}",
    )


def _say_what_is_over(subject: Subject, wanted: RecordedVersion, live: Sequence[RecordedVersion]) -> None:
    for version in live:
        if version.number > wanted.number and version.state != State.RETAINED:
            log.warning(
                "%s declares the contract of %s, which is active; %s is %s and nobody declares it. "
                "Next: pgvmig retire %s %s gives it up",
                *(subject.label, wanted.name, version.name, version.state, subject.label, version.name),
            )


def contract_of(embedding: Embedding) -> dict[str, Any]:
    """Return the keys to write into a revision: those that were given, and those that differ from the defaults.

    `vector_type` is written out where the dimensions chose it: another release may choose otherwise.
    """
    plain = Contract.of({key: embedding.given[key] for key in ("model", "model_version", "input")} | {"dimensions": 1})
    written = {name for name, _, _ in embedding.contract.diff(plain)} | set(embedding.given)
    return {name: value for name, value in embedding.contract.as_dict().items() if name in written}


def _no_key(subject: Subject) -> NoticeOp:
    return _notice(
        subject,
        "it has no primary key and no unique key without NULLs, so nobody could say which row a vector belongs to",
        "add one",
    )


def _notice(subject: Subject, found: str, next_step: str) -> NoticeOp:
    return noticed(f"{subject.label}: {found}. Next: {next_step}")
