"""Gate identity: does the provider make of a sample's texts the vectors that are stored?

A provider may change the model behind a name, and an endpoint, a prefix or a truncation may be another than the one
that the backfill had. Nothing else shows it: every vector is sound, and searches rank at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any

from pgvmig import config
from pgvmig.catalog.versions import Version
from pgvmig.checks.evidence import Finding, Task, listed
from pgvmig.contract import Contract
from pgvmig.errors import ConfigError, PgvmigError, ProviderError, ProviderUnavailableError

if TYPE_CHECKING:
    from pgvmig.embedders import Failure, Vectors

# Cosines of one text under two models are about this at most; a forgotten prefix leaves more in common.
_ANOTHER_MODEL = 0.6
# Kinds of AnswerRejectedError that say something about the model.
NOT_OF_THE_CONTRACT = ("dimensions", "not_finite", "zero", "norm")
# For so many seconds a provider that does not answer, or limits the rate, is asked again.
_PATIENCE = 30.0
# How far lengths may be apart where the contract does not say that all are 1.
_LENGTHS = 0.02


@dataclass(frozen=True, slots=True)
class Comparison:
    """A row's stored vector and the one that its text has now: `key`, their cosine, whether they are the same."""

    key: str
    cosine: float
    same: bool


def look(task: Task) -> Finding:
    """Embed a sample again and compare. No transaction is open while the provider is asked."""
    rows = task.sample("sample_texts", task.options.sample)
    if not rows:
        return Finding(
            passed=True, found="there are no vectors to make again", wanted=_wanted(task), next=None, measured={}
        )
    task.report("embedding a sample again", 0, len(rows))
    try:
        answers = embedded(task.version.contract, [text for _, text, _ in rows])
    except (ConfigError, ProviderError) as error:
        return _not_compared(task, error)
    task.report("embedding a sample again", len(rows), len(rows))
    compared, refused = _compared(task, rows, answers)
    return _judged(task, compared, refused)


def embedded(contract: Contract, texts: Sequence[str]) -> list[Vectors | Failure]:
    """Return what the provider makes of the texts now. Raises ConfigError, ProviderError."""
    from pgvmig.embedders import embed_or_isolate, open_embedder

    # somebody waits for the answer: a worker's patience would be minutes without a word
    settings = config.provider(contract.provider)
    patience = min(settings.max_retry_time, _PATIENCE)
    embedder = open_embedder(contract, replace(settings, max_retry_time=patience))
    try:
        return embed_or_isolate(embedder, texts)
    finally:
        embedder.close()


def _compared(
    task: Task, rows: Sequence[tuple[str, str, str]], answers: Sequence[Vectors | Failure]
) -> tuple[list[Comparison], list[str]]:
    """Return how near the vectors are, and why the provider refuses texts that it once embedded."""
    from pgvmig.embedders import Failure

    refused = [answer.error for answer in answers if isinstance(answer, Failure)]
    compared = [
        compare(task.version.contract, task.options.min_cosine, key, stored, answer)
        for (key, _, stored), answer in zip(rows, answers, strict=True)
        if not isinstance(answer, Failure)
    ]
    return compared, refused


def compare(contract: Contract, min_cosine: float, key: str, stored: str, made: Any) -> Comparison:
    """Compare a stored vector, as PostgreSQL writes it, with the one that was made now."""
    import numpy as np

    old = np.array(stored.strip("[]").split(","), dtype=np.float64)
    new = np.asarray(made, dtype=np.float64)
    length, other = float(np.linalg.norm(old)), float(np.linalg.norm(new))
    if old.shape != new.shape or not length or not other:
        return Comparison(key, 0.0, same=False)
    cosine = float(old @ new) / (length * other)
    as_long = contract.normalized or abs(length / other - 1) <= _LENGTHS
    return Comparison(key, cosine, same=cosine >= min_cosine and as_long)


def _judged(task: Task, compared: Sequence[Comparison], refused: Sequence[str]) -> Finding:
    total = len(compared) + len(refused)
    others = [comparison for comparison in compared if not comparison.same]
    cosines = [comparison.cosine for comparison in compared]
    worst, middle = (min(cosines), median(cosines)) if cosines else (None, None)
    said = f"; cosines: worst {worst:.3f}, median {middle:.3f}" if cosines else ""
    passed = not others and not refused
    if passed:
        found = f"{_model(task.version)} makes the {total:,} sampled vectors again as they are stored{said}"
    else:
        found = (
            f"{len(others) + len(refused):,} of {total:,} sampled vectors are not what {_model(task.version)} makes now"
        )
        found += f"{said}: {_meaning(task, others, middle, refused)}"
    return Finding(
        passed=passed,
        found=found,
        wanted=_wanted(task),
        next=None if passed else _advice(task.version),
        measured={
            "sampled": total,
            "other": len(others),
            "refused": len(refused),
            "worst": worst,
            "median": middle,
            "limit": task.options.min_cosine,
            "keys": [comparison.key for comparison in others[:5]],
        },
    )


def _meaning(task: Task, others: Sequence[Comparison], middle: float | None, refused: Sequence[str]) -> str:
    if not others:
        return f"the provider refuses texts that it once embedded ({refused[0]})"
    if middle is None or middle >= task.options.min_cosine:
        return f"the model is the same, but rows {listed([c.key for c in others])} have vectors of something else"
    if middle < _ANOTHER_MODEL:
        return "another model answers, or another one made these vectors"
    return "the model is a near relation, or prefix, preprocessing or truncation is another"


def _not_compared(task: Task, error: PgvmigError) -> Finding:
    """Say why nothing was compared. An answer that cannot be this contract's is evidence, an outage is not."""
    provider = task.version.contract.provider
    answered = error.data.get("kind") in NOT_OF_THE_CONTRACT
    what = "answers with what is not of this contract" if answered else "could not be asked"
    again = f"pgvmig verify {task.version.name} --only identity when it answers again"
    step = None if isinstance(error, ProviderUnavailableError) else error.next_step
    return Finding(
        passed=False,
        found=f"provider {provider!r} {what}: {error.found}",
        wanted=_wanted(task),
        next=_advice(task.version) if answered else step or again,
        measured={},
        conclusive=answered,
    )


def _wanted(task: Task) -> str:
    return f"each sampled vector, made again, has a cosine of at least {task.options.min_cosine:g} with the stored one"


def _model(version: Version) -> str:
    return f"{version.contract.model} of provider {version.contract.provider!r}"


def _advice(version: Version) -> str:
    return (
        f"compare endpoint and model of provider {version.contract.provider!r} with the contract of {version.name}; "
        "vectors of another model or prefix need a version of their own (op.add_embedding)"
    )
