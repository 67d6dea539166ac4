"""A provider that takes 200 ms for every answer: how much eight requests in flight gain over one."""

from __future__ import annotations

from bench import provider, worker
from bench.figures import TIMES, Figure, Measurement, Target, ratios
from bench.provider import Provider
from bench.stage import Stage
from bench.tables import Documents

_LATENCY = 0.2
_BATCH = 64
_IN_FLIGHT = 8


def run(stage: Stage) -> list[Figure]:
    """Embed the same table with one request in flight and with eight."""
    documents = Documents(stage.pick(48, 8) * _BATCH, characters=200, dimensions=0)
    with provider.spawned(384, _LATENCY if not stage.quick else 0.02) as served:
        samples = {1: list[float](), _IN_FLIGHT: list[float]()}
        for number in stage.rounds:
            for concurrency, rates in samples.items():
                rates.append(_rate(stage, documents, served, concurrency))
                stage.say(f"round {number + 1}, {concurrency} in flight: {rates[-1]:,.0f} rows/s")
    one, eight = samples[1], samples[_IN_FLIGHT]
    return [
        Figure("one request of 64 texts in flight", "rows/s", tuple(one)),
        Figure("eight in flight", "rows/s", tuple(eight)),
        Figure("eight over one", TIMES, ratios(eight, one), Target(at_least=7)),
    ]


def _rate(stage: Stage, documents: Documents, served: Provider, concurrency: int) -> float:
    with stage.database(documents) as dsn:
        worker.prepare(dsn, adopted=0)
        served.counts(reset=True)
        settings = {"batch_size": _BATCH, "concurrency": concurrency}
        with worker.started(dsn, served, settings=settings) as started:
            started.wait()
        return worker.rate(dsn, served)


MEASUREMENT = Measurement("latency", "a provider that takes 200 ms: requests in flight", run)
