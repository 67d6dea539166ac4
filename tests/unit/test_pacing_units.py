"""How figures and names are written in what signals say."""

from datetime import timedelta

import pytest

from pgvmig.pacing.units import literal, quoted, session, size, span


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 ms"),
        (0.0306, "31 ms"),
        (1, "1.0 s"),
        (119, "119.0 s"),
        (120, "2 min"),
        (7199, "120 min"),
        (7200, "2.0 h"),
        (172_800, "2.0 days"),
    ],
)
def test_time_spans(seconds, said):
    assert span(timedelta(seconds=seconds)) == said


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 kB"), (3 * 1024**2 // 2, "1.5 MB"), (1024**5, "1,024.0 TB")],
)
def test_sizes(number, said):
    assert size(number) == said


@pytest.mark.parametrize(("role", "said"), [("worker", "worker"), ("My Role", '"My Role"'), ('a"b', '"a""b"')])
def test_roles(role, said):
    assert quoted(role) == said


def test_literals():
    assert literal("it's") == "'it''s'"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"pid": 7, "usename": "app", "application_name": ""}, "session 7 (app)"),
        (
            {"pid": 7, "usename": "app", "application_name": "shop", "state": "active", "query": " SELECT\n 1 "},
            'session 7 (app, application shop, active) with "SELECT 1"',
        ),
        (
            {"pid": 7, "usename": None, "application_name": None, "backend_type": "autovacuum worker"},
            "session 7 (autovacuum worker)",
        ),
        ({"pid": 7, "usename": None, "application_name": None}, "session 7 (unknown user)"),
    ],
)
def test_sessions(row, said):
    assert session(row) == said
