"""How good search results are, by judged queries and a well-kept IR library. Knows nothing of how they were found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import ir_measures
import numpy as np
from ir_measures import RR, Qrel, R, ScoredDoc, nDCG

from pgvmig.demo.corpus import Query
from pgvmig.demo.models import Vectors
from pgvmig.errors import UsageError

_NDCG, _RECALL, _MRR = nDCG @ 10, R @ 10, RR @ 10


@dataclass(frozen=True, slots=True)
class Quality:
    """Means over all judged queries; a query without results counts as 0."""

    ndcg_at_10: float
    recall_at_10: float
    mrr_at_10: float


def judge(run: Mapping[str, Sequence[int]], queries: Iterable[Query]) -> Quality:
    """Judge a run: the ids of the passages found, best first, by query id.

    Raises UsageError when the run has a query that nobody judged.
    """
    judged = [Qrel(query.id, str(passage), grade) for query in queries for passage, grade in query.relevant.items()]
    unknown = set(run) - {qrel.query_id for qrel in judged}
    if unknown:
        raise UsageError(f"nobody judged the query {min(unknown)!r}", next_step="judge the run by its own queries")
    # The library sorts by score; ranks are all that we have, and all that it needs.
    scored = [ScoredDoc(query, str(found), -rank) for query, ids in run.items() for rank, found in enumerate(ids)]
    values = ir_measures.calc_aggregate([_NDCG, _RECALL, _MRR], judged, scored)
    return Quality(values[_NDCG], values[_RECALL], values[_MRR])


def exact_search(query_vectors: Vectors, passage_vectors: Vectors, k: int = 10) -> list[list[int]]:
    """Return for each query the positions of the `k` passages of the greatest cosine, best first.

    Both are unit vectors of the same model; of passages that are alike the earlier comes first.
    """
    similar = query_vectors @ passage_vectors.T
    return [[int(position) for position in row] for row in np.argsort(-similar, axis=1, kind="stable")[:, :k]]
