"""The index that a version is to have: access method, its options, and whether it is one over smaller vectors. Pure.

What cannot be is refused here, before a row is embedded or an index begun.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pgvmig.contract import Contract
from pgvmig.errors import UsageError

QUANTIZATIONS = ("halfvec", "binary")
# pgvector's options: the least, the most, and what it takes when none is given. IVFFlat's lists follow the rows.
OPTIONS: dict[str, dict[str, tuple[int, int, int | None]]] = {
    "hnsw": {"m": (2, 100, 16), "ef_construction": (4, 1000, 64)},
    "ivfflat": {"lists": (1, 32768, None)},
}
METHODS = tuple(OPTIONS)
# How many dimensions an index takes, by the type that it holds.
MOST_DIMENSIONS = {"vector": 2_000, "halfvec": 4_000, "bit": 64_000}
_OPCLASS = {"cosine": "cosine_ops", "l2": "l2_ops", "inner_product": "ip_ops", "l1": "l1_ops"}


@dataclass(frozen=True, slots=True)
class IndexPlan:
    """An index as somebody asked for it; what is left out of `options` is pgvector's default.

    `quantize`: None for the vectors as they are, `halfvec` for half the size, `binary` for a bit of each component.
    """

    method: str = "hnsw"
    options: Mapping[str, int] = field(default_factory=dict)
    quantize: str | None = None

    @classmethod
    def of(cls, contract: Contract, method: str, options: Mapping[str, Any] | None, quantize: str | None) -> IndexPlan:
        """Return the checked plan for vectors of this contract. Raises UsageError."""
        plan = cls(method, dict(options or {}), quantize)
        _check_method(plan, contract)
        _check_options(plan)
        _check_quantize(plan, contract)
        _check_dimensions(plan, contract)
        return plan

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as `pgvmig.version.index_plan` keeps it."""
        return {"method": self.method, "options": dict(self.options), "quantize": self.quantize}

    def holds(self, contract: Contract) -> str:
        """Return the type of what the index holds."""
        return {None: contract.vector_type, "halfvec": "halfvec", "binary": "bit"}[self.quantize]

    def opclass(self, contract: Contract) -> str:
        """Return pgvector's operator class."""
        if self.quantize == "binary":
            return "bit_hamming_ops"
        return f"{self.holds(contract)}_{_OPCLASS[contract.metric]}"

    def is_met_by(self, options: Mapping[str, Any]) -> bool:
        """Whether an index of the method with these options, as the catalog has them, is what is asked for."""
        return all(
            default is None or int(options.get(name, default)) == default
            if name not in self.options
            else int(options.get(name, default or 0)) == self.options[name]
            for name, (_, _, default) in OPTIONS[self.method].items()
        )


def _check_method(plan: IndexPlan, contract: Contract) -> None:
    if plan.method not in METHODS:
        raise UsageError(f"method is {plan.method!r}", next_step=f"use one of {', '.join(METHODS)}")
    if plan.method == "ivfflat" and contract.metric == "l1":
        raise UsageError(
            "IVFFlat has no operator class for l1",
            hazard="pgvector's k-means knows no centres for that distance, only HNSW ranks by it",
            next_step="method='hnsw'",
        )


def _check_options(plan: IndexPlan) -> None:
    known = OPTIONS[plan.method]
    for name, value in plan.options.items():
        if name not in known:
            raise UsageError(
                f"{plan.method} has no option {name!r}",
                hazard="PostgreSQL would say so after the backfill, when the index is begun",
                next_step=f"use {' or '.join(known)}",
            )
        least, most, _ = known[name]
        if type(value) is not int or not least <= value <= most:
            raise UsageError(f"{name} is {value!r}", next_step=f"give a number from {least:,} to {most:,}")
    if plan.method == "hnsw":
        m, ef = (plan.options.get(name, known[name][2] or 0) for name in ("m", "ef_construction"))
        if ef < 2 * m:
            raise UsageError(
                f"ef_construction is {ef} and m is {m}",
                hazard="A row's neighbours are chosen from ef_construction candidates; pgvector wants two for each",
                next_step=f"ef_construction from {2 * m} up",
            )


def _check_quantize(plan: IndexPlan, contract: Contract) -> None:
    if plan.quantize is None:
        return
    if plan.quantize not in QUANTIZATIONS:
        raise UsageError(f"quantize is {plan.quantize!r}", next_step=f"use one of {', '.join(QUANTIZATIONS)}, or none")
    if plan.quantize == "halfvec" and contract.vector_type == "halfvec":
        raise UsageError(
            "quantize is 'halfvec' and the vectors are halfvec already",
            next_step="leave quantize= out, or quantize='binary'",
        )
    if plan.quantize == "binary" and not contract.ranks_by_bits:
        lengths = "" if contract.metric == "l1" else " of vectors that need not have unit length"
        raise UsageError(
            f"quantize is 'binary' and the metric is {contract.metric}{lengths}",
            hazard="A bit says on which side of zero a component is: bits rank by angle and know neither lengths nor "
            "distances, so the nearest rows would not be among the candidates",
            next_step="quantize='halfvec', or none"
            if contract.vector_type == "vector"
            else "leave quantize= out, the index holds halfvec",
        )


def _check_dimensions(plan: IndexPlan, contract: Contract) -> None:
    holds = plan.holds(contract)
    if contract.dimensions <= MOST_DIMENSIONS[holds]:
        return
    ways = [
        f"quantize={other!r}"
        for other, kind in (("halfvec", "halfvec"), ("binary", "bit"))
        if contract.dimensions <= MOST_DIMENSIONS[kind]
        and (other == "halfvec" or contract.ranks_by_bits)
        and holds != kind
    ]
    raise UsageError(
        f"{contract.dimensions:,} dimensions as {holds}, of which an index takes {MOST_DIMENSIONS[holds]:,}",
        hazard="PostgreSQL would say so after the backfill, when the index is begun",
        next_step=" or ".join(ways) or "ask the model for fewer dimensions (many shorten on request)",
    )
