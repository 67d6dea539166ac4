"""Aurora's replicas, from rows as its documentation describes them: no Aurora can be had here."""

from datetime import timedelta

import pytest

from pgvmig.catalog.standbys import Standby
from pgvmig.pacing import aurora
from pgvmig.pacing.lag import judge
from pgvmig.pacing.limits import DEFAULTS
from pgvmig.pacing.ring import Ring
from pgvmig.pacing.signals import SignalState, Verdict
from pgvmig.pacing.snapshot import Snapshot

OK, STOP, UNKNOWN, NOT_APPLICABLE = (
    SignalState.OK,
    SignalState.STOP,
    SignalState.UNKNOWN,
    SignalState.NOT_APPLICABLE,
)
WRITER = {
    "server_id": "docs-1",
    "session_id": "MASTER_SESSION_ID",
    "durable_lsn": 500_000,
    "replica_lag_in_msec": None,
    "age": None,
}
READER = {
    "server_id": "docs-2",
    "session_id": "6e1f6b2e-2b60-4d5a-8f24-f2e2b5f5d3c1",
    "durable_lsn": 499_000,
    "replica_lag_in_msec": 18.0,
    "age": 0.4,
}
DECLARED = Standby(name="docs-2", declared=True)


def verdict(*rows, declared=(DECLARED,), samples=((99.9, 499_500),), no_standbys=False):
    ring = Ring()
    for clock, lsn in (*samples, (100.0, 500_000)):
        ring.add(clock, lsn)
    snapshot = Snapshot(
        began=100.0,
        ended=100.002,
        lsn=aurora.primary_lsn(rows),
        role="worker",
        sees_figures=True,
        no_standbys=no_standbys,
        standbys=aurora.standbys(rows, declared),
        positions=aurora.problems(rows),
        aurora=True,
    )
    return Verdict(judge(snapshot, ring, DEFAULTS, 100.002))


def test_a_reader_that_keeps_up():
    found = verdict(WRITER, READER, samples=((99.0, 498_000), (99.9, 499_500)))
    assert (found.state, found.lag, found.lag_bytes) == (OK, timedelta(milliseconds=100), 1000)
    assert verdict(WRITER, READER | {"durable_lsn": 500_000}).reason == "docs-2 has replayed everything"


def test_a_reader_whose_own_figure_is_above_the_limit():
    found = verdict(WRITER, READER | {"replica_lag_in_msec": 4000.0}, samples=((99.0, 498_000), (99.9, 499_500)))
    assert found.state is STOP
    assert found.reason == "docs-2 is 4.0 s and 1000 bytes behind, the limit is 1.5 s"


def test_a_reader_that_stands_still_is_seen_by_our_samples():
    found = verdict(WRITER, READER, samples=((90.0, 498_000), (91.0, 499_500)))
    assert (found.state, found.lag) == (STOP, timedelta(seconds=9))


def test_a_reader_without_a_figure_is_unknown():
    samples = ((99.0, 498_000), (99.9, 499_500))
    assert verdict(WRITER, READER | {"replica_lag_in_msec": None}, samples=samples).state is UNKNOWN
    assert verdict(WRITER, READER | {"durable_lsn": None}, samples=samples).state is UNKNOWN


@pytest.mark.parametrize(
    ("age", "said"), [(31.0, "last reported 31.0 s ago"), (None, "does not say when it last reported")]
)
def test_a_reader_that_has_gone_silent(age, said):
    found = verdict(WRITER, READER | {"age": age})
    assert (found.state, found.reason) == (UNKNOWN, f"docs-2: {said} (aurora_replica_status())")


def test_a_declared_reader_that_is_gone():
    found = verdict(WRITER)
    assert (found.state, found.reason) == (UNKNOWN, "docs-2 is declared and not connected")


def test_a_reader_that_nobody_declared():
    found = verdict(WRITER, READER, declared=(), no_standbys=True)
    assert found.state is UNKNOWN
    assert found.reason == "declared to have no standbys, but connected: docs-2 (streaming)"
    assert found.next_step == "pgvmig standby add docs-2"


def test_no_readers_at_all():
    assert verdict(WRITER, declared=(), no_standbys=True).state is NOT_APPLICABLE


def test_a_standby_of_another_kind_beside_the_readers():
    # A logical or physical replica outside of Aurora is in pg_stat_replication as everywhere.
    outside = Standby(name="onprem", declared=True, pid=7, state="streaming", replay_lsn=500_000)
    found = verdict(WRITER, READER | {"durable_lsn": 500_000}, declared=(DECLARED, outside))
    assert [reading.signal for reading in found.readings] == [
        "replication lag of docs-2",
        "replication lag of onprem",
    ]
    assert found.state is OK


def test_a_reader_that_was_asked_sees_no_primary():
    assert aurora.primary_lsn([READER]) is None
