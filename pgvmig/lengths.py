"""How long vectors are: what a contract allows, and the function that measures it."""

from __future__ import annotations

from pgvmig import config
from pgvmig.contract import Contract
from pgvmig.errors import ConfigError

# Half precision rounds a component by up to 1/2048 of it.
_HALFVEC_ROUNDING = 0.0005


def tolerance(contract: Contract) -> float:
    """Return how far a normalized vector's length may be from 1: what its provider is allowed, and rounding."""
    try:
        allowed = config.provider(contract.provider).norm_tolerance
    except ConfigError:
        allowed = config.ProviderSettings(name=contract.provider).norm_tolerance
    return allowed + (_HALFVEC_ROUNDING if contract.vector_type == "halfvec" else 1e-6)


def norm_function(vector_type: str) -> str:
    """Return what pgvector calls the length of a vector of that type."""
    return "vector_norm" if vector_type == "vector" else "l2_norm"
