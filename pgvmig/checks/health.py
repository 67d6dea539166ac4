"""Gate health: every vector has the contract's dimensions and length, is finite and not zero."""

from __future__ import annotations

from pgvmig.catalog.versions import Version
from pgvmig.checks.evidence import Finding, listed
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
            f"otherwise {_again(version)}"
        )
    return _again(version)


def _again(version: Version) -> str:
    where = "" if version.layout == "column" else " (their rows in " + version.vector_table_name + ")"
    return (
        f"find who wrote them past the worker, take these vectors and their provenance away{where}, "
        f"and let pgvmig backfill {version.name} make them again"
    )
