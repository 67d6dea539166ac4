"""What tests of the pacing signals share: one signal, judged by recorded rows at a moment that stands still."""

from __future__ import annotations

from pgvmig.pacing.limits import DEFAULTS
from pgvmig.pacing.registry import SIGNALS, judge
from pgvmig.pacing.ring import History
from pgvmig.pacing.signals import SignalState, Subject
from pgvmig.pacing.snapshot import Answer, Snapshot

OK, STOP, UNKNOWN, NOT_APPLICABLE = (
    SignalState.OK,
    SignalState.STOP,
    SignalState.UNKNOWN,
    SignalState.NOT_APPLICABLE,
)
MB = 1024 * 1024
NOW = 1000.0
DOCUMENTS, OTHER, SIDE = 16384, 16400, 16500
SUBJECT = Subject(relation=DOCUMENTS, slot="embedding", pids=frozenset({11, 12}))


def named(name):
    (found,) = [signal for signal in SIGNALS if signal.name == name]
    return found


def look(name, *rows, limits=None, subject=SUBJECT, history=None, error=None, age=0.0, **server):
    """Judge one signal by the rows that its question brought."""
    given = {
        "began": NOW - age,
        "ended": NOW - age,
        "lsn": 1000,
        "role": "worker",
        "sees_figures": True,
        "no_standbys": True,
        "standbys": (),
        "xid": 5000,
        "archive_mode": "on",
        "synchronous_standby_names": "s1",
    } | server
    snapshot = Snapshot(answers={name: Answer(NOW - age, rows, error)}, **given)
    changed = DEFAULTS.changed(**(limits or {}))
    return judge(snapshot, history or History(), changed, NOW, subject=subject, signals=[named(name)])


def only(name, *rows, **given):
    (reading,) = look(name, *rows, **given)
    assert reading.kind == (named(name).kind or name)
    return reading


def paused(relation=None, slot=None, reason=None, version=None):
    target = None if relation is None else "documents"
    where = {"relation": relation, "target": target, "slot": slot, "version": version}
    return {**where, "paused_by": "dba", "reason": reason}
