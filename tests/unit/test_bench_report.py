"""The benchmark's figures, and the table that it writes into a document."""

from __future__ import annotations

import base64
import json

import click
import numpy as np
import pytest

from bench.__main__ import MEASUREMENTS, PEERS, chosen
from bench.figures import TIMES, Figure, Measurement, Target, ratios, shown
from bench.provider import POOL, Model, number, vectors
from bench.report import Report, markers

FAST = Figure("new over old", TIMES, (6.0, 4.0, 5.0), Target(at_least=4.5))
SLOW = Figure("lag over limit", TIMES, (2.5,), Target(at_most=2))


@pytest.fixture
def report():
    """A run of one measurement with a target that was met, and one that was not."""
    measurement = Measurement("speed", "how fast", lambda _: [])
    return Report("make bench", "bench", {"cores": "2"}, [(measurement, [FAST, SLOW], 1.0)])


def test_the_median_is_held_against_the_target():
    assert (FAST.median, FAST.met) == (5.0, True)
    assert (SLOW.median, SLOW.met) == (2.5, False)
    assert Figure("rows", "rows/s", (1.0,)).met is None


def test_at_the_target_is_met():
    assert Target(at_least=4).met(4)
    assert Target(at_most=1.3).met(1.3)
    assert (str(Target(at_least=4)), str(Target(at_most=1.3))) == ("≥ 4", "≤ 1.3")


def test_ratios_are_made_within_a_repetition():
    assert ratios([10, 2], [5, 1]) == (2, 2)
    with pytest.raises(ValueError, match="shorter"):
        ratios([10, 2], [5])


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(12_345.6, "rows/s", "12,346 rows/s"), (4.567, TIMES, f"4.57 {TIMES}"), (0.5, "", "0.50"), (0, "%", "0.00 %")],
)
def test_values_as_people_read_them(value, unit, text):
    assert shown(value, unit) == text


def test_json_has_every_sample(report):
    (measured,) = json.loads(report.as_json())["measured"]
    assert measured["name"] == "speed"
    assert measured["figures"][0]["samples"] == [6.0, 4.0, 5.0]
    assert [figure["met"] for figure in measured["figures"]] == [True, False]
    assert report.missed == 1


def test_the_table_is_written_between_the_markers_again_and_again(report, tmp_path):
    document = tmp_path / "performance.md"
    begin, end = markers("bench")
    document.write_text(f"before\n{begin}\nold\n{end}\nafter\n", encoding="utf-8")
    report.write(document)
    once = document.read_text(encoding="utf-8")
    report.write(document)
    assert document.read_text(encoding="utf-8") == once
    assert once.startswith(f"before\n{begin}\nPrinted by `make bench` on: cores: 2.\n")
    assert f"| speed | new over old | 5 {TIMES} | 4 … 6 | ≥ 4.5 | yes |\n" in once
    assert f"|  | lag over limit | 2.5 {TIMES} |  | ≤ 2 | **no** |\n{end}\nafter\n" in once


def test_a_document_without_markers_is_left_alone(report, tmp_path):
    document = tmp_path / "performance.md"
    document.write_text("nothing", encoding="utf-8")
    with pytest.raises(ValueError, match="has no markers <!-- bench: begin -->"):
        report.write(document)
    assert document.read_text(encoding="utf-8") == "nothing"


def test_names_are_unique_and_chosen_by_name():
    names = [measurement.name for measurement in (*MEASUREMENTS, *PEERS)]
    assert len(set(names)) == len(names)
    assert [measurement.name for measurement in chosen(MEASUREMENTS, ["lag"])] == ["lag"]
    assert chosen(MEASUREMENTS, []) == list(MEASUREMENTS)
    with pytest.raises(click.BadParameter, match="there is no speed; there are table-write, "):
        chosen(MEASUREMENTS, ["speed"])


def test_a_text_has_the_same_vector_in_both_encodings():
    texts = ["one text", "another"]
    model = Model(4)
    both = [
        json.loads(model.answer({"input": texts, "model": "m", "encoding_format": encoding}))
        for encoding in ("base64", "float")
    ]
    assert [[item["index"] for item in answer["data"]] for answer in both] == [[0, 1]] * 2
    expected = np.stack([vectors(4)[number(text)] for text in texts])
    floats = np.array([item["embedding"] for item in both[1]["data"]], "<f4")
    decoded = np.stack([np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in both[0]["data"]])
    assert np.array_equal(floats, expected)
    assert np.array_equal(decoded, expected)
    assert all(number(text) < POOL for text in texts)
