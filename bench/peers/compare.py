"""pgvmig beside its peers: the same 10,000 rows, the same server, the same provider over HTTP, one process each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from bench import provider, worker
from bench.figures import TIMES, Figure, Measurement, Target, ratios
from bench.peers import pgai, vecshift
from bench.provider import Provider
from bench.stage import Stage
from bench.tables import Documents

# What was fastest here of 64, 256 and 1,024 texts a request for vecshift (four requests in flight are fixed there),
# and of 50 to 2,048 rows by one to eight tasks for pgai.
_VECSHIFT_BATCH = 1_024
_PGAI_BATCH, _PGAI_TASKS = 1_000, 2
_OURS = {"batch_size": 256, "concurrency": 4}

Contender = Callable[[str, Provider], float]


def run(stage: Stage) -> list[Figure]:
    """Let everybody embed a fresh copy of the table, by turns."""
    contenders = _contenders(stage)
    documents = Documents(stage.pick(10_000, 600))
    samples = {name: list[float]() for name in contenders}
    with provider.spawned(384) as served:
        for number in stage.rounds:
            for name, contender in contenders.items():
                with stage.database(documents) as dsn:
                    samples[name].append(contender(dsn, served))
                stage.say(f"round {number + 1}, {name}: {samples[name][-1]:,.0f} rows/s")
    return [Figure(name, "rows/s", tuple(rates)) for name, rates in samples.items()] + _ratios(samples)


def _contenders(stage: Stage) -> dict[str, Contender]:
    old = vecshift.install(stage)
    other = pgai.install(stage)
    return {
        f"vecshift {old.version('vecshift')}, as it comes (64 by 4)": partial(vecshift.rate, old, batch=64),
        f"vecshift, {_VECSHIFT_BATCH:,} texts by 4": partial(vecshift.rate, old, batch=_VECSHIFT_BATCH),
        f"pgai {other.version('pgai')}, as it comes (50 by 1)": partial(pgai.rate, other, batch=50, concurrency=1),
        f"pgai, {_PGAI_BATCH:,} rows by {_PGAI_TASKS}, no tokenizer": partial(
            pgai.rate, other, batch=_PGAI_BATCH, concurrency=_PGAI_TASKS, model=pgai.UNKNOWN_MODEL
        ),
        "pgvmig, column layout (256 by 4)": partial(_pgvmig, layout="column"),
        "pgvmig, table layout (256 by 4)": partial(_pgvmig, layout="table"),
    }


def _pgvmig(dsn: str, served: Provider, layout: str) -> float:
    worker.prepare(dsn, layout=layout)
    served.counts(reset=True)
    with worker.started(dsn, served, settings=_OURS) as started:
        started.wait()
    return worker.rate(dsn, served)


def _ratios(samples: dict[str, list[float]]) -> list[Figure]:
    _, shift, _, ai, column, table = samples.values()
    return [
        Figure("column layout over the faster vecshift", TIMES, ratios(column, shift), Target(at_least=5)),
        Figure("table layout over the faster vecshift", TIMES, ratios(table, shift), Target(at_least=8)),
        Figure("table layout over the faster pgai", TIMES, ratios(table, ai), Target(at_least=3)),
    ]


MEASUREMENT = Measurement("peers", "pgvmig, vecshift and pgai on the same table", run)
