"""The parts of the report that need neither a database nor a browser."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
import reporting

from pgvmig.report import draw_quality, draw_work, page, stored, words
from pgvmig.report.evaluations import Answer, Figure
from pgvmig.report.palette import COLOURS
from pgvmig.report.progress import merged, moments
from pgvmig.report.safe import line, shown, visible

BEGAN = datetime(2026, 11, 1, tzinfo=UTC)


def second(number):
    return BEGAN + timedelta(seconds=number)


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ("plain, שלום, 日本, 👩‍👩‍👧", "plain, שלום, 日本, 👩‍👩‍👧"),
        ("a\u202eb\u200e\x00\x1b[1m", "a⟨U+202E⟩b⟨U+200E⟩⟨U+0000⟩⟨U+001B⟩[1m"),
        ("two\nlines\tand\r\ntabs\u2028", "two lines and  tabs⟨U+2028⟩"),
        ("zero\u200bwidth\ufeff", "zero⟨U+200B⟩width⟨U+FEFF⟩"),
    ],
)
def test_characters_that_are_not_seen_are_spelled_out(given, seen):
    assert visible(given) == seen


def test_long_texts_are_cut_and_say_so():
    long = shown("x" * 100_000, most=320)
    assert (len(long.text), long.characters, long.cut) == (320, 100_000, True)
    assert not shown("short").cut
    # more characters are shown than there are
    assert not shown("\x00" * 300).cut
    assert shown("the beginning of 321", most=10, characters=100_000).characters == 100_000
    assert line("a\n  b " + "c" * 500, 10) == "a b ccccc…"


def test_figures_as_people_read_them():
    spans = [(0.25, "250 ms"), (9.94, "9.9 s"), (61, "1 min 1 s"), (7200, "2 h"), (90_000, "1 d 1 h")]
    assert [words.duration(seconds) for seconds, _ in spans] == [said for _, said in spans]
    assert [words.figure(value) for value in (1234.5, 64.04, 0.0312, -2.5)] == ["1,234", "64.0", "0.031", "\u22122.50"]
    assert words.percent(0.99996) == "99.9 %"
    assert words.percent(1.0) == "100.0 %"
    assert words.signed(-0.0312) == f"{words.MINUS}0.031"
    assert [words.number(value) for value in (None, 12_345, 0.125, 3.5, 4.0)] == [
        words.NONE,
        "12,345",
        "0.12",
        "3.5",
        "4",
    ]


def test_the_speed_is_that_of_all_workers_together():
    readings = [
        {"run_id": run, "at": second(at), "rows_written": rows, "lag": lag}
        for run, at, rows, lag in [
            ("a", 0, 0, None), ("a", 5, 500, 0.2), ("a", 10, 1000, 1.5),
            ("b", 2, 0, None), ("b", 4, 100, 0.4), ("b", 8, 300, None),
        ]
    ]  # fmt: skip
    found = moments(readings, BEGAN, second(10), stretches=5)
    assert [m.at for m in found] == [second(n) for n in (1, 3, 5, 7, 9)]
    assert [m.rows_per_second for m in found] == pytest.approx([100, 150, 150, 150, 100])
    assert [m.lag for m in found] == [None, None, 0.4, None, 1.5]
    assert moments([], BEGAN, BEGAN) == []


def test_stops_for_one_reason_are_added_up_and_near_ones_drawn_as_one():
    stop = reporting.backfill().stops[0]
    stops = [
        replace(stop, began=second(at), ended=second(at + 5), signal=signal, reason=f"at {at}")
        for at, signal in [(0, "lag"), (6, "lag"), (100, "wal"), (200, "lag")]
    ]
    assert [(r.signal, r.times, r.lasted.total_seconds(), r.reason) for r in page.stop_reasons(stops)] == [
        ("lag", 3, 15, "at 200"),
        ("wal", 1, 5, "at 100"),
    ]
    assert merged(stops, timedelta(seconds=2)) == [
        (second(0), second(11)),
        (second(100), second(105)),
        (second(200), second(205)),
    ]


def test_the_worst_queries_come_first_and_no_place_is_left_empty():
    of = [
        reporting.query(str(n), change) for n, change in enumerate([0.0, *[-0.1 * n for n in range(1, 10)], 0.3, 0.2])
    ]
    changed = stored.most_changed(of)
    assert [q.change for q in changed] == pytest.approx([*[-0.1 * n for n in range(9, 0, -1)], 0.3, 0.2])
    more = [reporting.query(str(n), 0.01 * n) for n in range(1, 30)]
    assert len(stored.most_changed([*of, *more])) == stored.WORSE + stored.BETTER
    assert stored.most_changed([*of, *more])[stored.WORSE].change == pytest.approx(0.3)


def test_without_judgements_those_come_first_that_share_least():
    alike = [Answer(key=str(n)) for n in range(10)]
    other = [Answer(key=str(n + 5)) for n in range(10)]
    queries = [
        replace(reporting.query(name, 0), change=None, old_answers=alike, new_answers=new)
        for name, new in [("same", alike), ("half", other), ("empty", [])]
    ]
    assert [q.id for q in stored.most_changed(queries)] == ["empty", "half"]


def stored_row(figures):
    judged = {"set_name": "n", "set_owner": "o", "judged_on": date(2026, 1, 1), "set_hash": "h"}
    return {
        "evaluation_id": 1, "at": BEGAN, "by": "dba", "old": "v1", "new": "v2", "verdict": "GO", "reason": "r",
        "pilot": False, "thresholds": {}, "figures": figures, "set_queries": 1, "set_judged": 1, "queries": None,
        **judged,
    }  # fmt: skip


def test_an_evaluation_of_another_release_is_shown_as_far_as_it_is_understood():
    assert stored.evaluation(stored_row({})).main is None
    assert stored.evaluation(stored_row({"metrics": {}, "latency": {}, "agreement": {}, "limits": []})).times == []
    metric = {"old": 0.1, "new": 0.2, "difference": 0.1, "low": 0.0, "high": 0.2, "wins": 3, "surprise": []}
    # as jsonb orders them
    found = stored.evaluation(stored_row({"metrics": {"MAP": metric, "MRR@10": metric, "nDCG@10": metric}, "new": 1}))
    assert [f.name for f in found.figures] == ["nDCG@10", "MRR@10", "MAP"]
    assert (found.wins, found.losses) == (3, None)
    facts = reporting.plain(evaluations=[stored.evaluation(stored_row({}))])
    assert "Nobody judged the queries" in page.render(facts)


def test_the_slowest_call_is_always_drawn():
    queries = [{"old": {"search": [0.001 * n, 0.002 * n], "embedding": 0.5}} for n in range(1, 400)]
    (times,) = stored.evaluation(
        stored_row({"latency": {"old": {"search": {"p50": 0.1, "p95": 0.2, "p99": 0.3}}}}) | {"queries": queries}
    ).times
    assert len(times.samples) <= 200
    assert times.samples[-1] == pytest.approx(798)
    assert times.p95 == pytest.approx(200)


def test_both_lists_say_how_rows_moved():
    query = reporting.query(
        "1", 0, old_answers=[Answer(key=k) for k in "abc"], new_answers=[Answer(key=k) for k in "cad"]
    )
    first, second_place, third = page.places(query)
    assert (first.moved, first.gone, first.came) == (2, False, False)
    assert (second_place.moved, second_place.gone) == (-1, True)
    assert (third.came, third.moved) == (True, None)


def test_what_differs_in_the_contracts_comes_first():
    rows = page.contract_rows(reporting.whole())
    assert [row.name for row in rows if row.differs] == ["model", "model_version", "dimensions", "input"]
    assert (rows[2].old, rows[2].new) == (256, 384)
    assert [row.differs for row in rows] == sorted((row.differs for row in rows), reverse=True)


def contrast(one, other):
    def light(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(p * weight for p, weight in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))

    dark, bright = sorted((light(one), light(other)))
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_plots_have_contrast(theme):
    colour = {name: both[theme] for name, both in COLOURS.items()}
    on_card = ["ink", "muted", "old", "new", "third", "fourth", "fail", "pass"]
    assert [name for name in on_card if contrast(colour[name], colour["card"]) < 4.5] == []
    states = [name for name in colour if name.startswith("state-")]
    assert [name for name in states if contrast(colour[name], colour["on-state"]) < 4.5] == []


def texts(svg):
    return [element.text for element in ET.fromstring(svg).iter() if element.tag.endswith("text")]


def test_hostile_names_are_drawn_as_they_are_written():
    name = '$\\frac{1}{2}$ <b>\u202e & "x"'
    figures = [Figure(name=name, old=0.1, new=0.2, difference=0.1, low=0.0, high=0.2)]
    for drawing in (plot := draw_quality.quality(reporting.evaluation(figures=figures))).wide, plot.narrow:
        assert visible(name)[:23] in " ".join(text or "" for text in texts(drawing))
        assert "<b>" not in drawing
        assert "\u202e" not in drawing


def test_a_plot_follows_the_theme_and_its_ids_are_its_own():
    facts = reporting.whole()
    drawings = [draw_work.timeline(facts.spans, facts.events), draw_work.backfill(facts.backfills[0])]
    ids = []
    for plot in drawings:
        for svg in (plot.wide, plot.narrow):
            colours = set(re.findall(r"(?:fill|stroke): ([^;\"]+)", svg)) - {"none"}
            assert colours
            assert all(colour.startswith("var(--") for colour in colours)
            names = re.findall(r'\bid="([^"]+)"', svg)
            assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg)) <= set(names)
            ids += names
    assert len(ids) == len(set(ids))
    assert "12 min" not in drawings[1].alt
    assert "120,400 rows in 4 h" in drawings[1].alt


def test_what_there_is_not_is_not_drawn():
    nothing = reporting.evaluation(figures=[], groups=[], times=[], changed=[])
    assert draw_quality.quality(nothing) is None
    assert draw_quality.groups(nothing) is None
    assert draw_quality.latency(nothing) is None
    assert draw_quality.over_time([nothing, nothing]) is None
    assert draw_quality.over_time([reporting.evaluation()]) is None
    assert draw_quality.production("p", "clicked", [], [], {}) is None
    assert draw_work.timeline([], []) is None
    assert draw_work.backfill(reporting.backfill(moments=[])) is None


def test_a_page_without_anything_says_what_to_do_next():
    text = page.render(reporting.unbegun())
    steps = ("op.add_embedding(&#34;documents&#34;", "pgvmig backfill documents v1", "pgvmig verify documents v1")
    assert [step for step in steps if step not in text] == []
    text = page.render(reporting.plain(gates=None, counted=False))
    assert "pgvmig evaluate documents v1 v2 --queries queries.jsonl --qrels qrels.tsv" in text
    assert "Not run, because of --no-count" in text


def test_the_verdict_stands_at_the_top_whatever_it_is():
    nothing = {"figures": [], "groups": [], "times": []}
    for verdict, said in (("GO", "GO"), ("NO-GO", "NO-GO"), ("INCONCLUSIVE", "INCONCLUSIVE"), (None, "No verdict")):
        text = page.render(reporting.plain(evaluations=[reporting.evaluation(verdict=verdict, **nothing)]))
        assert f'<p class="word">{said}</p>' in text
    problem = reporting.gates(results=[], problem="permission denied for table documents", next_step="GRANT")
    assert "permission denied for table documents" in page.render(reporting.plain(gates=problem))
    empty = page.render(reporting.plain(gates=reporting.gates(way_back=True, version="v1")))
    assert "The way back to v1" in empty


def test_hundreds_of_evaluations_are_not_all_listed():
    many = [
        reporting.evaluation(n, figures=[Figure(name="nDCG@10", old=0.1, new=0.2)], groups=[], times=[])
        for n in range(250)
    ]
    text = page.render(reporting.plain(evaluations=many))
    assert "And 210 earlier ones, in pgvmig.evaluation." in text
    assert text.count('<span class="badge go">GO</span>') == 40
