"""pgvmig beside its peers: the same 10,000 rows, the same server, the same provider over HTTP."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from bench import provider, worker
from bench.figures import TIMES, Figure, Measurement, Target, ratios
from bench.peers import pgai, vecshift
from bench.provider import Provider
from bench.stage import Stage
from bench.tables import Documents

# What was fastest here of 64, 256 and 1,024 texts a request for vecshift, where four requests in flight are fixed and a
# second process is refused; of 50 to 2,048 rows by one to eight tasks for pgai.
_FASTER_VECSHIFT = 1_024
_FASTER_PGAI = pgai.Settings(batch=1_000, tasks=2, model=pgai.UNKNOWN_MODEL)
_OURS = {"batch_size": 500, "concurrency": 2}
_OUR_OPTIONS = ("--max-batch-size", "1000", "--target-time", "300ms")
_TWO = "2 processes"


class Contender(NamedTuple):
    """Somebody with certain settings; `who` is whose figure counts when several are the same one's."""

    who: str
    settings: str
    rate: Callable[[str, Provider], float]

    def __str__(self) -> str:
        return f"{self.who}: {self.settings}"


def run(stage: Stage) -> list[Figure]:
    """Let everybody embed a fresh copy of the table, by turns."""
    contenders = _contenders(stage)
    documents = Documents(stage.pick(10_000, 600), texts="realistic")
    samples: dict[Contender, list[float]] = {contender: [] for contender in contenders}
    with provider.spawned(384) as served:
        for number in stage.rounds:
            for contender, rates in samples.items():
                with stage.database(documents) as dsn:
                    rates.append(contender.rate(dsn, served))
                stage.say(f"round {number + 1}, {contender}: {rates[-1]:,.0f} rows/s")
    return [Figure(str(contender), "rows/s", tuple(rates)) for contender, rates in samples.items()] + _ratios(samples)


def _contenders(stage: Stage) -> list[Contender]:
    old, other = vecshift.install(stage), pgai.install(stage)
    shift, ai = f"vecshift {old.version('vecshift')}", f"pgai {other.version('pgai')}"
    two = replace(_FASTER_PGAI, processes=2)
    return [
        Contender(shift, "as it comes, 64 texts, 4 in flight", partial(vecshift.rate, old, batch=64)),
        Contender(
            shift, f"{_FASTER_VECSHIFT:,} texts, 4 in flight", partial(vecshift.rate, old, batch=_FASTER_VECSHIFT)
        ),
        Contender(ai, "as it comes, 50 rows, 1 task", partial(pgai.rate, other, settings=pgai.Settings())),
        Contender(ai, "1,000 rows, 2 tasks, no tokenizer", partial(pgai.rate, other, settings=_FASTER_PGAI)),
        Contender(ai, f"the same, {_TWO}", partial(pgai.rate, other, settings=two)),
        *(
            Contender(
                f"pgvmig, {layout} layout", f"500 texts, 2 in flight, {text}", partial(_pgvmig, layout, processes)
            )
            for layout in ("column", "table")
            for processes, text in ((1, "1 process"), (2, _TWO))
        ),
    ]


def _pgvmig(layout: str, processes: int, dsn: str, served: Provider) -> float:
    worker.prepare(dsn, layout=layout)
    served.counts(reset=True)
    with ExitStack() as stack:
        started = [
            stack.enter_context(worker.started(dsn, served, *_OUR_OPTIONS, settings=_OURS)) for _ in range(processes)
        ]
        for process in started:
            process.wait()
    return worker.rate(dsn, served)


def _ratios(samples: Mapping[Contender, Sequence[float]]) -> list[Figure]:
    """Return each one's fastest settings over another's fastest, and the same of one process each."""

    def fastest(who: str, *, alone: bool) -> Sequence[float]:
        his = {one: rates for one, rates in samples.items() if one.who.startswith(who)}
        return max((rates for one, rates in his.items() if not (alone and _TWO in one.settings)), key=statistics.median)

    def over(ours: str, other: str, least: float, *, alone: bool) -> Figure:
        how = "one process each" if alone else "each at its fastest"
        both = ratios(fastest(f"pgvmig, {ours}", alone=alone), fastest(other, alone=alone))
        return Figure(f"{ours} layout over {other}, {how}", TIMES, both, Target(at_least=least))

    wanted = (("column", "vecshift", 5), ("table", "vecshift", 8), ("table", "pgai", 3))
    return [over(*one, alone=alone) for alone in (False, True) for one in wanted]


MEASUREMENT = Measurement("peers", "pgvmig, vecshift and pgai on the same table", run)
