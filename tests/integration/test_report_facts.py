"""The report's facts come from a real database, a real backfill and a real evaluation."""

from __future__ import annotations

import json
import re
import stat
from datetime import date

import pytest
from click.testing import CliRunner
from lifecycle import add_version, embed
from vectors import cut_over

from pgvmig import cli
from pgvmig.cli import output
from pgvmig.evaluation.comparing import Request, evaluate
from pgvmig.evaluation.judged import JudgedSet, Query
from pgvmig.evaluation.store import Origin
from pgvmig.report import collect, page

QUERIES = tuple(
    Query(id=str(n), text=f"<b>passage {n}</b>\u202e", group="odd" if n % 2 else "even") for n in range(1, 25)
)


@pytest.fixture
def migrated(site):
    """Two backfilled versions of sixty rows, the first active, compared on two dozen queries."""
    site.documents(rows=60)
    site.execute("UPDATE documents SET body = body || '<script>' || repeat('x', 2000)")
    first = site.version("v1", provider="other", model="other")
    site.run()
    cut_over(site.connection, first)
    site.version("v2")
    site.run()
    judged = JudgedSet(queries=QUERIES, judgements={q.id: {q.id: 1, "7": 2} for q in QUERIES} | {"not asked": {"7": 1}})
    origin = Origin(name="a few", owner="Mira", judged_on=date(2020, 1, 1), file_date=date(2020, 1, 1))
    evaluate(site.connection, Request(target="documents", old="v1", new="v2", judged=judged, origin=origin))
    site.execute("SELECT pgvmig.record_outcome('documents', 'v1', 'clicked', 0.25)")
    return site


def report(*arguments):
    return CliRunner().invoke(cli.cli, ["report", "documents", *arguments], standalone_mode=False)


def test_what_a_migration_left_behind_is_on_the_page(migrated, tmp_path, monkeypatch):
    facts = collect.collect(migrated.connection, "documents")
    assert [(v.version, v.state) for v in facts.versions] == [("v1", "active"), ("v2", "ready")]
    assert [(b.version, b.rows_written, b.finished) for b in facts.backfills] == [("v2", 60, True), ("v1", 60, True)]
    written = sum(m.rows_per_second for m in facts.backfills[0].moments) * _stretch(facts.backfills[0])
    assert written == pytest.approx(60, rel=0.01)
    assert [(s.version, s.state) for s in facts.spans if s.version == "v2"] == [
        ("v2", "added"),
        ("v2", "backfilling"),
        ("v2", "ready"),
    ]
    assert (facts.gates.version, facts.gates.way_back) == ("v2", False)
    assert "index" in [gate.gate for gate in facts.gates.failures]

    newest = facts.newest
    assert (newest.old, newest.new, newest.judged_set.judged, newest.queries) == ("v1", "v2", 24, 24)
    assert newest.figures[0].name == "nDCG@10"
    assert newest.figures[0].difference == pytest.approx(newest.figures[0].new - newest.figures[0].old)
    assert [group.name for group in newest.groups] == ["even", "odd"]
    assert {(t.stage, t.side) for t in newest.times} == {
        (stage, side) for stage in ("embedding", "search") for side in ("old", "new")
    }
    assert all(0 < t.p50 <= t.p99 and t.samples[-1] >= t.p99 - 1e-6 for t in newest.times)
    changed = newest.changed[0]
    assert re.fullmatch(r"<b>passage \d+</b>⟨U\+202E⟩", changed.text.text)
    assert len(changed.new_answers) == 10
    assert all(answer.text.cut and answer.text.characters > 2000 for answer in changed.new_answers)
    assert [(m.metric, m.version, m.mean) for m in facts.production] == [("clicked", "v1", 0.25)]

    monkeypatch.setenv("PGVMIG_DSN", migrated.database.dsn)
    html = tmp_path / "report.html"
    result = report("--html", str(html), "--json")
    said = json.loads(result.output)
    assert said["versions"] == {"v1": "active", "v2": "ready"}
    assert said["gates"]["passed"] is False
    assert said["evaluation"]["verdict"] == newest.verdict
    text = html.read_text(encoding="utf-8")
    assert said["bytes"] == len(text.encode()) < 1_500_000
    assert stat.S_IMODE(html.stat().st_mode) & 0o400
    assert "passage" in text
    assert "<script" not in text.lower()
    assert "<b>passage" not in text
    assert re.findall(r"(?:src|href)=\"(?!#)[^\"]*", text) == []

    report("--html", str(html), "--no-text", "--no-count")
    text = html.read_text(encoding="utf-8")
    assert "passage" not in text
    assert re.search(r'query <span class="text" dir="auto">\d+</span>', text)


def _stretch(backfill):
    return (backfill.ended - backfill.began).total_seconds() / len(backfill.moments)


def test_the_way_back_is_next_when_nothing_is_newer(site):
    site.documents(rows=3)
    for name in ("v1", "v2"):
        version = add_version(site.connection, "documents", name)
        embed(site.connection, version)
        site.execute("UPDATE pgvmig.version SET state = 'ready' WHERE version = %s", name)
        cut_over(site.connection, version)
    facts = collect.collect(site.connection, "documents")
    assert (facts.gates.version, facts.gates.way_back) == ("v1", True)
    assert [v and v.version for v in facts.pair()] == ["v1", "v2"]
    assert "The way back to" in page.render(facts)


def test_a_target_that_has_not_begun_and_one_that_is_not_there(site, tmp_path, monkeypatch, capsys):
    site.documents()
    add_version(site.connection, "documents", "v1")
    text = page.render(collect.collect(site.connection, "documents"))
    for step in ("op.add_embedding(", "pgvmig backfill documents v1", "pgvmig.record_outcome("):
        assert step in text
    monkeypatch.setenv("PGVMIG_DSN", site.database.dsn)
    monkeypatch.setattr("sys.argv", ["pgvmig", "report", "nothing", "--html", str(tmp_path / "x.html")])
    assert output.run(cli.cli) == 1
    assert "pgvmig has no versions of nothing" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["pgvmig", "report", "documents", "--html", str(tmp_path / "no" / "x.html")])
    assert output.run(cli.cli) == 2
    assert "there is no folder" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["pgvmig", "report", "documents", "--html", "/dev/null"])
    assert output.run(cli.cli) == 2
    assert "/dev/null is no file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "link.html").symlink_to(tmp_path / "page.html")
    report("--html", str(tmp_path / "link.html"))
    assert (tmp_path / "link.html").is_symlink()
    assert "migration report" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert len(list(tmp_path.iterdir())) == 2


def test_who_may_not_read_the_table_sees_keys_and_no_texts(migrated):
    migrated.execute("CREATE ROLE report_reader_of_a_test")
    try:
        migrated.execute("GRANT SELECT ON ALL TABLES IN SCHEMA pgvmig TO report_reader_of_a_test")
        migrated.execute("SET ROLE report_reader_of_a_test")
        facts = collect.collect(migrated.connection, "documents", count=False)
        assert facts.gates is None
        assert facts.newest.changed
        assert all(answer.text is None for query in facts.newest.changed for answer in query.new_answers)
        assert "none that this role may read" in page.render(facts)
    finally:
        migrated.execute("RESET ROLE")
        migrated.execute("DROP OWNED BY report_reader_of_a_test")
        migrated.execute("DROP ROLE report_reader_of_a_test")
