"""Whether a column can be what a contract says, as far as the database can tell by itself: index and lengths.

Asked by a revision too, so it calls no provider and reads a few pages only. What a provider must be asked for is in
pgvmig/adopting/.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

from psycopg import sql

from pgvmig import lengths
from pgvmig import sql as files
from pgvmig.address import Address
from pgvmig.contract import Contract
from pgvmig.errors import ContractError
from pgvmig.layouts import ddl
from pgvmig.runner import Row, Runner, decoded, one

_PAGES, _VECTORS = 400, 1_000
_METRIC = {"cosine": "cosine", "l2": "l2", "ip": "inner_product", "l1": "l1"}
_OPCLASS = {metric: short for short, metric in _METRIC.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What one look found: in words, in figures (`measured`), and the next command when it did not pass.

    `skipped`: somebody said that it shall not count, and why.
    """

    check: str
    passed: bool
    found: str
    wanted: str
    next: str | None = None
    measured: dict[str, Any] = field(default_factory=dict)
    skipped: bool = False

    @property
    def blocks(self) -> bool:
        """Whether it keeps the column from being adopted."""
        return not (self.passed or self.skipped)


def require(run: Runner, where: Address, column: str, contract: Contract) -> None:
    """Refuse what index and lengths show to be another space, and warn when nobody has asked the model.

    Raises ContractError, and GateError where `pgvmig adopt` has found another model or two. What that was told to skip
    is skipped here as well.
    """
    literals = {"column": sql.Literal(column), "fingerprint": sql.Literal(contract.fingerprint)}
    run.run(files.query("adopt", "require_passed_look", **where.literals(), **literals))
    look = _newest_look(run, where, column, contract)
    skipped = {check["check"] for check in look["checks"] if check["skipped"]} if look else set()
    sampled = check_lengths(run, where, column, contract)
    for check in (check_index(run, where, column, contract), sampled):
        if check.blocks and check.check not in skipped:
            raise ContractError(check.found, hazard=f"Adoption wants: {check.wanted}", next_step=check.next)
    if look is None and sampled.measured["vectors"]:
        warnings.warn(
            f"nobody has compared the vectors of {where.table.name}.{column} with what {contract.model} makes: another "
            f"model's, or two models', would be adopted unseen. Next: {command(where, column, '--check')}",
            stacklevel=2,
        )


def check_index(run: Runner, where: Address, column: str, contract: Contract) -> Check:
    """Compare what the column's indexes rank by with the contract's metric."""
    rows = run.run(
        files.query("adopt", "indexes", relation=where.table.relation, column=sql.Literal(column)),
    )
    metrics = {row["name"]: _METRIC[row["opclass"].split("_")[-2]] for row in rows}
    wanted = f"an index ranks by {contract.metric}, or there is none"
    measured: dict[str, Any] = {"indexes": metrics, "invalid": [row["name"] for row in rows if not row["valid"]]}
    if not rows:
        return Check(check="index", passed=True, found="there is no index", wanted=wanted, measured=measured)
    said = ", ".join(f"{name} ranks by {metric}" for name, metric in metrics.items())
    if contract.metric in metrics.values():
        return Check(check="index", passed=True, found=said, wanted=wanted, measured=measured)
    return Check(
        check="index",
        passed=False,
        found=f"{said}, the contract says {contract.metric}",
        wanted=wanted,
        next=_index_advice(where, column, contract, rows[0], next(iter(metrics.values()))),
        measured=measured,
    )


def _index_advice(where: Address, column: str, contract: Contract, index: Row, metric: str) -> str:
    opclass = sql.Identifier(f"{contract.vector_type}_{_OPCLASS[contract.metric]}_ops")
    create = sql.SQL("CREATE INDEX CONCURRENTLY ON {} USING hnsw ({} {})").format(
        where.table.identifier, sql.Identifier(column), opclass
    )
    return (
        f"if the service ranks by {metric}, say metric {metric!r}; else it has never used this index: "
        f"{files.text(create)}; DROP INDEX CONCURRENTLY {index['qualified']}"
    )


def check_lengths(run: Runner, where: Address, column: str, contract: Contract) -> Check:
    """Look at the lengths of some vectors, in the database."""
    schema = one(run.run(sql.SQL("SELECT pgvmig.vector_schema()")))
    allowed = lengths.tolerance(contract)
    (row,) = run.run(
        files.query(
            "adopt",
            "lengths",
            table=where.table.identifier,
            relation=where.table.relation,
            column=column,
            norm=ddl.type_name(schema, lengths.norm_function(contract.vector_type)),
            tolerance=sql.Literal(allowed),
            pages=sql.Literal(_PAGES),
            limit=sql.Literal(_VECTORS),
        )
    )
    return judge_lengths(contract, row, allowed)


def judge_lengths(contract: Contract, counted: Row, allowed: float) -> Check:
    """Say whether sampled vectors are as long as the contract says; none may be zero."""
    wanted = "no sampled vector is zero" + (f", each is 1 ± {allowed:.3g} long" if contract.normalized else "")
    wrong = counted["wrong"] if contract.normalized else 0
    faults = {"are zero": counted["zero"], f"are not 1 ± {allowed:.3g} long": wrong}
    there = [f"{number:,} {what}" for what, number in faults.items() if number]
    said = "" if counted["longest"] is None else f"; lengths {counted['shortest']:.4g} to {counted['longest']:.4g}"
    found = (
        f"of {counted['vectors']:,} sampled vectors {', '.join(there)}{said}"
        if there
        else f"{counted['vectors']:,} sampled vectors{said}"
    )
    return Check(
        check="lengths",
        passed=not there,
        found=found,
        wanted=wanted,
        next=_length_advice(wrong) if there else None,
        measured=dict(counted) | {"tolerance": allowed if contract.normalized else None},
    )


def _length_advice(wrong: int) -> str:
    if wrong:
        return "if the model does not normalise, say normalized false (--not-normalized); else another model wrote them"
    return "a zero vector is in no cosine index: set it to NULL, or let the application embed the row again"


def command(where: Address, column: str, *options: str) -> str:
    """Return the command that looks at the column."""
    target = where.label.removesuffix(f" {where.version}")
    named = [] if column == where.slot else ["--column", column]
    return " ".join(["pgvmig adopt", target, "--version", where.version, *named, *options])


def _newest_look(run: Runner, where: Address, column: str, contract: Contract) -> Row | None:
    rows = run.run(
        files.query(
            "adopt",
            "newest_look",
            relation=where.table.relation,
            column=sql.Literal(column),
            fingerprint=sql.Literal(contract.fingerprint),
        )
    )
    return {**rows[0], "checks": decoded(rows[0]["checks"])} if rows else None
