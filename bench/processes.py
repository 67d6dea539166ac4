"""Four worker processes on one table: no row is sent twice, and each does its share."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from bench import provider, worker
from bench.figures import TIMES, Figure, Measurement, Target, ratios
from bench.provider import Provider
from bench.stage import Stage
from bench.tables import Documents

_PROCESSES = 4
# What a provider takes at least: without it one process fills both cores of a small machine by itself.
_LATENCY = 0.1


def run(stage: Stage) -> list[Figure]:
    """Embed the same table with one process and with four; compare what the provider was asked with the rows."""
    documents = Documents(stage.pick(20_000, 600), characters=200, dimensions=0)
    one, four, repeated, least = list[float](), list[float](), list[float](), list[float]()
    with provider.spawned(384, _LATENCY) as served:
        for number in stage.rounds:
            one.append(_measure(stage, documents, served, 1)[0])
            speed, sent, share = _measure(stage, documents, served, _PROCESSES)
            four.append(speed)
            repeated.append(sent)
            least.append(share)
            stage.say(f"round {number + 1}: one {one[-1]:,.0f} rows/s, four {speed:,.0f} rows/s")
    return [
        Figure("one process", "rows/s", tuple(one)),
        Figure("four processes", "rows/s", tuple(four)),
        Figure("four over one", TIMES, ratios(four, one)),
        Figure("times that a row was sent", "", tuple(repeated), Target(at_most=1)),
        Figure("share of the process that did least", "%", tuple(least)),
    ]


def _measure(stage: Stage, documents: Documents, served: Provider, processes: int) -> tuple[float, float, float]:
    """Return the speed, texts sent per row of the table, and the least share of a process in percent."""
    with stage.database(documents) as dsn, ExitStack() as stack:
        worker.prepare(dsn, adopted=0)
        served.counts(reset=True)
        started = [stack.enter_context(worker.started(dsn, served)) for _ in range(processes)]
        written = [_written(process.wait()) for process in started]
        counts = served.counts()
        if sum(written) != documents.rows or counts["distinct"] != documents.rows:
            raise AssertionError(f"{documents.rows} rows, {written} written, {counts} asked")
        return worker.rate(dsn, served), counts["texts"] / documents.rows, 100 * min(written) / documents.rows


def _written(result: dict[str, Any]) -> int:
    return sum(int(counters["written"]) for counters in result["versions"].values())


MEASUREMENT = Measurement("processes", "four worker processes share one table", run)
