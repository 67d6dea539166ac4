"""Intervals around means and ratios by the bootstrap, sample sizes, and how alike two rankings are. Knows numbers only.

Paired: both versions answered the same queries, so what is drawn again and again are queries, with both of their
figures (Efron and Tibshirani, An Introduction to the Bootstrap, 1993; for IR metrics Sakai, SIGIR 2006).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from pgvmig.evaluation.verdict import Estimate

# The same figures give the same interval, today and in an audit.
_SEED = 20_061_106
_RESAMPLES = 9_999
# Numbers drawn at once: so much memory an evaluation may take, and no more, for any number of queries.
_DRAWN = 4_000_000
# One minus the two errors that a plan of the sample size allows: 2.5 % on the side that matters, 20 % for missing it.
_Z = float(stats.norm.ppf(0.975) + stats.norm.ppf(0.8))


def mean(values: Sequence[float]) -> Estimate:
    """Return the mean and its 95 % interval, by the percentiles of resampled means."""
    sample = np.asarray(values, dtype=float)
    middle = float(sample.mean())
    if len(sample) < 2 or np.ptp(sample) == 0:  # noqa: PLR2004  # nothing to draw from
        return Estimate(middle, middle, middle)
    interval = _bootstrap((sample,), np.mean, paired=False)
    return Estimate(middle, *interval)


def p95_ratio(old: Sequence[float], new: Sequence[float]) -> Estimate:
    """Return how many times the old 95th percentile the new one is; the two are pairs of measurements."""
    first, second = np.asarray(old, dtype=float), np.asarray(new, dtype=float)

    def ratio(old_values: np.ndarray, new_values: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.asarray(np.percentile(new_values, 95, axis=axis) / np.percentile(old_values, 95, axis=axis))

    value = float(ratio(first, second))
    if len(first) < 2:  # noqa: PLR2004
        return Estimate(value, value, value)
    return Estimate(value, *_bootstrap((first, second), ratio, paired=True))


def queries_needed(differences: Sequence[float], bound: float) -> int:
    """Return about how many queries like these would decide whether the mean is above or below the bound."""
    sample = np.asarray(differences, dtype=float)
    distance = abs(float(sample.mean()) - bound)
    spread = float(sample.std(ddof=1)) if len(sample) > 1 else 0.0
    if distance * 1e6 <= spread:
        return 10**12
    return max(math.ceil((_Z * spread / distance) ** 2), len(sample) + 1)


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Return the 50th, 95th and 99th percentile by name."""
    return {f"p{rank}": float(np.percentile(seconds, rank)) for rank in (50, 95, 99)}


def overlap(old: Sequence[str], new: Sequence[str], depth: int) -> float:
    """Return which share of the first `depth` two rankings have in common; of shorter ones, of the longer of them."""
    most = max(min(depth, max(len(old), len(new))), 1)
    return len(set(old[:depth]) & set(new[:depth])) / most if old or new else 1.0


def rank_correlation(old: Sequence[str], new: Sequence[str]) -> float:
    """Return Kendall's tau-b over what either found; what one of them did not find is behind all that it found.

    (Top-k lists: Fagin, Kumar and Sivakumar, Comparing top k lists, 2003.)
    """
    if list(old) == list(new):
        return 1.0
    union = sorted({*old, *new})
    if len(union) == 1:
        return 0.0
    places = [[_place(row, ranking) for row in union] for ranking in (old, new)]
    tau = float(stats.kendalltau(*places).statistic)
    return 0.0 if math.isnan(tau) else tau


def _place(row: str, ranking: Sequence[str]) -> int:
    return ranking.index(row) if row in ranking else len(ranking)


def _bootstrap(samples: tuple[np.ndarray, ...], statistic: object, *, paired: bool) -> tuple[float, float]:
    interval = stats.bootstrap(
        samples,
        statistic,
        paired=paired,
        vectorized=True,
        method="percentile",
        n_resamples=_RESAMPLES,
        batch=max(_DRAWN // len(samples[0]), 1),
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    return float(interval.low), float(interval.high)
