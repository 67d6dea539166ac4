"""How good rankings are, by a well-kept IR library. Knows nothing of how they were found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ir_measures
from ir_measures import RR, Qrel, R, ScoredDoc, nDCG

from pgvmig.evaluation.verdict import MRR, NDCG, RECALL

DEPTH = 10
_MEASURES = {NDCG: nDCG @ DEPTH, RECALL: R @ DEPTH, MRR: RR @ DEPTH}


def of_each(
    judgements: Mapping[str, Mapping[str, int]], found: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, float]]:
    """Return the metrics of every judged query by query and name; one that found nothing has 0.

    `found` has what was found, best first. A grade is the gain in nDCG; in the others any grade above 0 is relevant.
    """
    names = {measure: name for name, measure in _MEASURES.items()}
    values = {query: dict.fromkeys(_MEASURES, 0.0) for query in judgements}
    judged = [Qrel(query, row, grade) for query, grades in judgements.items() for row, grade in grades.items()]
    # The library sorts by score; ranks are all that we have, and all that it needs.
    scored = [
        ScoredDoc(query, row, -rank) for query in judgements for rank, row in enumerate(found.get(query, ())[:DEPTH])
    ]
    for value in ir_measures.iter_calc(list(names), judged, scored):
        values[value.query_id][names[value.measure]] = float(value.value)
    return values
