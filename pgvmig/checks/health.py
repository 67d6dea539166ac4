"""Gate health: every vector has the contract's dimensions and length, is finite and not zero."""

from __future__ import annotations

from psycopg import sql

from pgvmig.catalog.versions import Version
from pgvmig.checks.evidence import Finding, listed, requeue
from pgvmig.checks.walk import Tally


def judge(version: Version, tally: Tally) -> Finding:
    """Say what the walk found. A zero vector is in no cosine index, so that nobody ever finds its row."""
    contract = version.contract
    faults = {
        f"have not {contract.dimensions:,} dimensions": tally.wrong_dimensions,
        "hold NaN or infinity": tally.not_finite,
        "are zero": tally.zero,
        f"are not 1 ± {tally.tolerance:.3g} long": tally.wrong_length,
    }
    there = {what: number for what, number in faults.items() if number}
    lengths = "" if tally.shortest is None else f"; lengths {tally.shortest:.4g} to {tally.longest:.4g}"
    if there:
        said = ", ".join(f"{number:,} {what}" for what, number in there.items())
        found = f"of {tally.vectors:,} vectors {said}: rows {listed(tally.unsound_keys)}{lengths}"
    else:
        found = f"{tally.vectors:,} vectors of {contract.dimensions:,} dimensions{lengths}"
    length = f", 1 ± {tally.tolerance:.3g} long" if contract.normalized else ""
    return Finding(
        passed=not there,
        found=found,
        wanted=f"every vector has {contract.dimensions:,} dimensions, is finite, not zero{length}",
        next=_next(version, tally) if there else None,
        measured={
            "vectors": tally.vectors,
            "wrong_dimensions": tally.wrong_dimensions,
            "not_finite": tally.not_finite,
            "zero": tally.zero,
            "wrong_length": tally.wrong_length,
            "keys": tally.unsound_keys,
            "shortest": tally.shortest,
            "longest": tally.longest,
            "tolerance": tally.tolerance if contract.normalized else None,
        },
    )


def _next(version: Version, tally: Tally) -> str:
    if tally.wrong_length and not (tally.zero or tally.not_finite or tally.wrong_dimensions):
        return (
            "if the model does not normalise, that is another contract: add a version with normalized: false; "
            f"otherwise {_again(version, tally)}"
        )
    return _again(version, tally)


def _again(version: Version, tally: Tally) -> str:
    """Return the statement that takes these vectors away, as the gate provenance does, and who makes them again."""
    alias = sql.Identifier("x", version.vector_column)
    norm = sql.Identifier(
        version.vector_schema, "vector_norm" if version.contract.vector_type == "vector" else "l2_norm"
    )
    length = sql.SQL("{}({})").format(norm, alias)
    wrong = (
        sql.SQL("abs({} - 1) > {}").format(length, sql.Literal(tally.tolerance))
        if version.contract.normalized
        else sql.SQL("{} < 1e-18").format(length)
    )
    columns = (
        version.vector_column,
        version.version_id_column,
        version.source_hash_column,
        version.embedded_at_column,
    )
    statement = (
        "DELETE FROM {table} AS x WHERE {wrong}"
        if version.layout == "table"
        else "UPDATE {table} AS x SET ({columns}) = (NULL, NULL, NULL, NULL) WHERE {wrong}"
        if version.writer == "worker"
        else "SELECT * FROM {table} AS x WHERE {wrong}"
    )
    return (
        sql.SQL(statement)
        .format(
            table=sql.Identifier(version.vector_table_schema, version.vector_table_name),
            columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
            wrong=wrong,
        )
        .as_string(None)
        + f"; then {requeue(version)}"
    )
