"""What a trigger says of figures: too few say nothing, a multiple needs something to be a multiple of."""

from datetime import timedelta

import pytest

from pgvmig.watch.judging import Finding, Summary, Trigger, judge, span


def summary(mean=None, values=100, p95=None):
    return Summary(values=values, mean=mean, p95=mean if p95 is None else p95)


def found(now, before=None, against="v1", **trigger):
    given = {"metric": "errors", "comparison": "above", "bound": 0.05} | trigger
    return judge(Trigger(**given), "v2", now, against, before)


@pytest.mark.parametrize(
    ("comparison", "bound", "mean", "finding"),
    [
        ("above", 0.05, 0.051, Finding.TRIPPED),
        ("above", 0.05, 0.05, Finding.OK),
        ("below", 0.3, 0.29, Finding.TRIPPED),
        ("below", 0.3, 0.3, Finding.OK),
        ("above", 0, -1, Finding.OK),
        ("below", -2, -3, Finding.TRIPPED),
    ],
)
def test_an_absolute_bound(comparison, bound, mean, finding):
    judged = found(summary(mean), comparison=comparison, bound=bound)
    assert (judged.finding, judged.limit, judged.tripped) == (finding, bound, finding == Finding.TRIPPED)


@pytest.mark.parametrize(
    ("now", "before", "finding"),
    [
        (summary(9.0, values=49), None, Finding.TOO_FEW),
        (summary(9.0, values=50), None, Finding.TRIPPED),
        (summary(None, values=0), None, Finding.TOO_FEW),
    ],
)
def test_too_few_values_never_trip(now, before, finding):
    assert found(now, before).finding == finding


@pytest.mark.parametrize(
    ("now", "before", "finding", "limit"),
    [
        (summary(0.31), summary(0.2), Finding.TRIPPED, 0.3),
        (summary(0.29), summary(0.2), Finding.OK, 0.3),
        (summary(0.31), summary(0.2, values=49), Finding.TOO_FEW, 0.3),
        (summary(0.31), summary(None, values=0), Finding.TOO_FEW, None),
        (summary(0.31), summary(0.0), Finding.NO_BASELINE, None),
        (summary(0.31), summary(-1.0), Finding.NO_BASELINE, None),
        (summary(0.31), None, Finding.NO_BASELINE, None),
    ],
)
def test_a_relative_bound(now, before, finding, limit):
    judged = found(now, before, against=None if before is None else "v1", bound=1.5, relative=True)
    assert judged.finding == finding
    assert judged.limit == (None if limit is None else pytest.approx(limit))


def test_the_percentile_instead_of_the_mean():
    slow = summary(100.0, p95=900.0)
    assert found(slow, metric="latency_ms", bound=500).finding == Finding.OK
    assert found(slow, metric="latency_ms", bound=500, statistic="p95").figure == 900
    assert found(slow, summary(100.0, p95=500.0), bound=2, relative=True, statistic="p95").limit == 1000


@pytest.mark.parametrize(
    ("judged", "text"),
    [
        (found(summary(0.081, values=1212)), "errors 0.081 over 5 min (1,212 values), above 0.05"),
        (found(summary(0.01)), "errors 0.01 over 5 min (100 values), not above 0.05"),
        (
            found(summary(300.0), summary(100.0), metric="ms", bound=2, relative=True, statistic="p95"),
            "p95 of ms 300 over 5 min (100 values), above 200 (2 times v1's 100)",
        ),
        (found(summary(1.0, values=7)), "errors: too few values, v2 has 7 of 50"),
        (found(summary(1.0), summary(1.0, values=8), relative=True), "errors: too few values, v1 has 8 of 50"),
        (found(summary(1.0), summary(0.0), relative=True), "errors: nothing to compare with, v1 had 0"),
        (found(summary(1.0), None, None, relative=True), "errors: nothing to compare with, a version before has none"),
    ],
)
def test_what_is_said(judged, text):
    assert judged.text == text


def test_names():
    assert Trigger(metric="errors", comparison="above", bound=0.05).name == "errors above 0.05"
    relative = Trigger(metric="clicks", comparison="below", bound=0.9, relative=True, statistic="p95")
    assert relative.name == "p95 of clicks below 0.9 times before"
    assert [span(timedelta(seconds=n)) for n in (0.5, 90, 300, 7200)] == ["0.5 s", "90 s", "5 min", "2 h"]
