"""What the demo measured, as data and as rows of a table."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pgvmig.errors import PgvmigError


class DemoFailedError(PgvmigError):
    """The migration was not what pgvmig promises: a search failed or was ranked in the wrong space."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Of one migration from v1 to v2, back, forth, and v1's end. Times in seconds."""

    rows: int
    model_change: str
    revision: str
    alembic_checks: int
    rows_embedded: int
    batches: int
    backfill_seconds: float
    rows_per_second: float
    peak_replication_lag_seconds: float
    peak_replication_lag_bytes: int
    ndcg_at_10_old: float
    ndcg_at_10_new: float
    verdict: str
    verdict_reason: str
    writes: int
    searches_answered: int
    searches_failed: int
    searches_wrong_space: int
    errors: list[str]
    index_scans_old: int
    index_scans_new: int
    gates_passed: list[str]
    recall_at_10: float | None
    identity_worst_cosine: float | None
    missing_at_cutover: int
    longest_search_during_swap_seconds: float
    longest_search_otherwise_seconds: float
    cutover_seconds: float
    rollback_seconds: float
    total_seconds: float
    report: str

    def as_json(self) -> dict[str, Any]:
        """Return the figures by name."""
        return asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """Return what was measured and how much it was, for people."""
        return [
            ("rows in the table", f"{self.rows:,}"),
            ("alembic check, from the backfill to the end", f"clean {self.alembic_checks} times"),
            ("rows embedded for v2", f"{self.rows_embedded:,} in {self.batches:,} batches"),
            ("backfill of v2", f"{self.backfill_seconds:.1f} s, {self.rows_per_second:,.0f} rows/s"),
            (
                "peak replication lag",
                f"{self.peak_replication_lag_seconds:.2f} s, {self.peak_replication_lag_bytes:,} bytes",
            ),
            ("nDCG@10, old model", f"{self.ndcg_at_10_old:.3f}"),
            ("nDCG@10, new model", f"{self.ndcg_at_10_new:.3f}"),
            ("verdict of the evaluation", f"{self.verdict}: {self.verdict_reason}"),
            ("writes by the application", f"{self.writes:,}"),
            ("searches answered", f"{self.searches_answered:,}"),
            ("searches failed", f"{self.searches_failed:,}"),
            ("searches ranked in the wrong space", f"{self.searches_wrong_space:,}"),
            ("HNSW index scans, v1 and v2", f"{self.index_scans_old:,} and {self.index_scans_new:,}"),
            ("gates before the cutover of v2", self._gates()),
            ("rows not embedded yet at the cutover", f"{self.missing_at_cutover:,}"),
            ("longest search, while swapping", _ms(self.longest_search_during_swap_seconds)),
            ("longest search, at any other time", _ms(self.longest_search_otherwise_seconds)),
            ("cutover, gates included", f"{self.cutover_seconds:.2f} s"),
            ("rollback, gates included", f"{self.rollback_seconds:.2f} s"),
            ("the whole demo", f"{self.total_seconds:.0f} s"),
            ("the report, for your browser", self.report),
        ]

    def _gates(self) -> str:
        recall = "exact search" if self.recall_at_10 is None else f"recall@10 {self.recall_at_10:.3f}"
        cosine = "" if self.identity_worst_cosine is None else f", worst cosine {self.identity_worst_cosine:.3f}"
        return f"all {len(self.gates_passed)} pass, {recall}{cosine}"

    @property
    def passed(self) -> bool:
        """Whether every search was answered, in its own space."""
        return not self.searches_failed and not self.searches_wrong_space

    def check(self) -> None:
        """Raise DemoFailedError unless it passed."""
        if not self.passed:
            raise DemoFailedError(
                f"{self.searches_failed:,} searches failed and {self.searches_wrong_space:,} were ranked in the wrong "
                f"space; both must be 0 {self.errors}",
            )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
