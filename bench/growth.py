"""How the speed changes with the number of rows, the vectors' dimensions and the provider's latency: a small grid."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from bench import provider, worker
from bench.figures import Figure, Measurement
from bench.stage import Stage
from bench.tables import Documents


@dataclass(frozen=True, slots=True)
class Point:
    """One point of the grid; `latency` in seconds."""

    layout: str
    rows: int = 2_500
    dimensions: int = 384
    latency: float = 0.0

    def __str__(self) -> str:
        late = f", {self.latency * 1000:g} ms a request" if self.latency else ""
        return f"{self.layout} layout, {self.rows:,} rows, {self.dimensions}-d{late}"


def run(stage: Stage) -> list[Figure]:
    """Measure every point in every round; the table has no vectors before, and so no old index."""
    samples: dict[Point, list[float]] = defaultdict(list)
    for number in stage.rounds:
        for point in [Point("column", rows=100), Point("table", rows=100)] if stage.quick else _grid():
            samples[point].append(_rate(stage, point))
        stage.say(f"round {number + 1} is over")
    return [Figure(str(point), "rows/s", tuple(rates)) for point, rates in samples.items()]


def _grid() -> Iterator[Point]:
    yield from (Point("column", rows=rows) for rows in (2_500, 10_000, 40_000))
    yield from (Point(layout, dimensions=many) for layout in ("column", "table") for many in (256, 768, 1_536))
    yield from (Point("table", latency=seconds) for seconds in (0.1, 0.4))


def _rate(stage: Stage, point: Point) -> float:
    documents = Documents(point.rows, dimensions=0)
    with provider.spawned(point.dimensions, point.latency) as served, stage.database(documents) as dsn:
        worker.prepare(dsn, dimensions=point.dimensions, layout=point.layout, adopted=0)
        with worker.started(dsn, served) as started:
            started.wait()
        return worker.rate(dsn, served)


MEASUREMENT = Measurement("growth", "speed over rows, dimensions and latency, at default settings", run)
