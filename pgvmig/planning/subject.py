"""What a plan is about: a version that is there, with its contract, or one that is only thought of."""

from __future__ import annotations

from psycopg import sql

from pgvmig import sql as files
from pgvmig import tables
from pgvmig.address import Address
from pgvmig.contract import MAX_INDEXED, Contract
from pgvmig.errors import UsageError
from pgvmig.locating import facts_of, located
from pgvmig.names import key_column
from pgvmig.planning import plan as planning
from pgvmig.planning.plan import Plan, Space
from pgvmig.runner import Row, Runner, decoded

_OWN = ("vector_column", "version_id_column", "source_hash_column", "embedded_at_column")


def plan(
    run: Runner,
    target: str,
    version: str,
    *,
    dimensions: int | None = None,
    vector_type: str | None = None,
    exact: bool = False,
    rate: float | None = None,
) -> Plan:
    """Return the plan of a version, which need not be there yet: then `dimensions` says how long its vectors will be.

    Raises UsageError, NotFoundError, ContractError, and ConflictError for tables that pgvmig refuses.
    """
    where = located(run, target, version)
    with run.transaction():
        run.run(files.query("plan", "see_every_row"))
        table = facts_of(run, where.table)
        tables.check(table, where)
        facts = run.run(files.query("adding", "version_facts", **where.literals()))
        there = facts[0] if facts and facts[0]["state"] != "retired" else None
        return planning.make(
            run,
            where,
            _space(where, there, dimensions, vector_type),
            key=table["key"] or [],
            waits=_waits(run, where, there),
            own=[there[name] for name in _OWN] if there and there["layout"] == "column" else (),
            exact=exact,
            rate=rate,
        )


def _waits(run: Runner, where: Address, there: Row | None) -> sql.Composable:
    """Return the condition that a row `d` has no vector of the version yet."""
    if there is None:
        return planning.EVERY_ROW
    if there["layout"] == "column":
        return sql.SQL("d.{} IS NULL").format(sql.Identifier(there["vector_column"]))
    (slot,) = run.run(files.query("adding", "slot_facts", relation=where.table.relation, slot=sql.Literal(where.slot)))
    pairs = zip(slot["key_columns"], slot["present_key"], strict=True)
    same = [
        sql.SQL("e.{} = d.{}").format(sql.Identifier(key_column(name)), sql.Identifier(present))
        for name, present in pairs
    ]
    side = sql.Identifier(there["vector_table_schema"], there["vector_table_name"])
    return sql.SQL("NOT EXISTS (SELECT FROM {} AS e WHERE {})").format(side, sql.SQL(" AND ").join(same))


def _space(where: Address, there: Row | None, dimensions: int | None, vector_type: str | None) -> Space:
    if there is not None:
        contract = Contract.of(decoded(there["definition"]))
        if (dimensions or contract.dimensions, vector_type or contract.vector_type) != (
            contract.dimensions,
            contract.vector_type,
        ):
            raise UsageError(
                f"{where.label} is {contract.vector_type}({contract.dimensions}) already",
                next_step="leave --dimensions and --vector-type out, or plan the next version",
            )
        return Space(dimensions=contract.dimensions, vector_type=contract.vector_type)
    if dimensions is None:
        raise UsageError(
            f"{where.label} is not there yet, and nothing says how long its vectors will be",
            next_step=f"pgvmig plan {where.label} --dimensions 1536",
        )
    chosen = vector_type or ("vector" if dimensions <= MAX_INDEXED["vector"] else "halfvec")
    # the contract's own checks: what no index takes is refused here as well
    Contract.of({"model": "-", "model_version": "-", "dimensions": dimensions, "vector_type": chosen, "input": "-"})
    return Space(dimensions=dimensions, vector_type=chosen)
