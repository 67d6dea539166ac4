"""Judged queries in files: what is read, and what every wrong line is told."""

import pytest

from pgvmig.errors import UsageError
from pgvmig.evaluation import formats
from pgvmig.evaluation.judged import JudgedSet, Query, usable


@pytest.fixture
def file(tmp_path):
    def write(text, name="file"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_queries(file):
    path = file(
        '\ufeff{"id": 1, "text": "one", "group": "a"}\n\n'
        '{"_id": "two", "text": "zwei ü", "metadata": {}, "sql": "SELECT", "parameters": {"tenant": 4}}\r\n'
    )
    assert formats.read_queries(path) == [
        Query(id="1", text="one", group="a"),
        Query(id="two", text="zwei ü", sql="SELECT", parameters={"tenant": 4}),
    ]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("{", "no JSON: '{'"),
        ('["1"]', "no JSON object: '[\"1\"]'"),
        ('{"text": "x"}', "a query without an id"),
        ('{"id": "", "text": "x"}', "a query without an id"),
        ('{"id": "2"}', "the query '2' has no text"),
        ('{"id": "2", "text": "  "}', "the query '2' has no text"),
        ('{"id": "2", "text": 3}', "text is '3'"),
        ('{"id": "2", "text": "x", "group": ["a"]}', "group is '[\"a\"]'"),
        ('{"id": "2", "text": "x", "parameters": {"a": [1]}}', "parameters is '{\"a\": [1]}'"),
        ('{"id": "2", "text": "x", "parameters": {"a": NaN}}', "no JSON: "),
        ('{"id": "2", "text": "x\\u0000"}', "a character that is no text"),
        ('{"id": "1", "text": "x"}', "the query '1' is there a second time"),
        (b'{"id": "2", "text": "\xff"}', "no UTF-8"),
    ],
)
def test_wrong_queries(file, line, found):
    line = line if isinstance(line, bytes) else line.encode()
    path = file(b'{"id": "1", "text": "one"}\n' + line + b"\n")
    with pytest.raises(UsageError) as error:
        formats.read_queries(path)
    assert error.value.found.startswith(f"{path}, line 2: {found}")
    assert error.value.data == {"file": str(path), "line": 2}
    assert error.value.next_step


@pytest.mark.parametrize(
    "text",
    [
        "query-id\tcorpus-id\tscore\n1\ta b\t2\n1\tc\t0\n2\ta b\t1\n",
        "1 0 x 2\n1 0 c 0\n2 0 x 1\n".replace("x", "a_b"),
        "1\t0\ta b\t2\n\n1\tQ0\tc\t-2\n2\t0\ta b\t1\n2\t0\ta b\t1\n",
    ],
    ids=["beir", "trec", "tabs"],
)
def test_judgements(file, text):
    found = formats.read_judgements(file(text))
    spaced = {query: {row.replace("_", " "): grade for row, grade in grades.items()} for query, grades in found.items()}
    assert spaced == {"1": {"a b": 2, "c": 0}, "2": {"a b": 1}}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("1\t2", "2 columns: '1 2'"),
        ("1\t\t2", "3 columns: '1  2'"),
        ("1 2 3 4 5", "5 columns: '1 2 3 4 5'"),
        ("1\t2\t0.5", "the grade '0.5'"),
        ("query-id\tcorpus-id\tscore", "the grade 'score'"),
        ("1\ta\t3", "'a' answers '1' with grade 3, and with 1 above"),
    ],
)
def test_wrong_judgements(file, line, found):
    path = file(f"1\ta\t1\n{line}\n")
    with pytest.raises(UsageError) as error:
        formats.read_judgements(path)
    assert error.value.found == f"{path}, line 2: {found}"


def test_empty_files(file):
    with pytest.raises(UsageError, match="has no queries"):
        formats.read_queries(file("\n"))
    with pytest.raises(UsageError, match="has no judgements"):
        formats.read_judgements(file("query-id\tcorpus-id\tscore\n"))
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        formats.read_queries(file("").with_name("other"))


def test_the_hash_is_of_what_is_said(file):
    one = formats.read(file('{"id":"1","text":"x"}\n{"id":"2","text":"y"}'), file("1 a 1\n2 b 1", "q"))
    same = formats.read(file('{"_id": 2, "text": "y"}\n{"id": "1", "text": "x"}'), file("2\t0\tb\t1\n1\t0\ta\t1", "q"))
    other = formats.read(file('{"id":"1","text":"x"}\n{"id":"2","text":"y"}'), file("1 a 1\n2 b 2", "q"))
    assert one.hash == same.hash != other.hash
    assert formats.read(file('{"id":"1","text":"x"}'), None).is_judged is False


def test_what_can_be_measured():
    queries = tuple(Query(id=name, text=name) for name in ("good", "zero", "gone", "new"))
    judgements = {"good": {"07": 2, "x": 1}, "zero": {"07": 0}, "gone": {"x": 1}, "else": {"07": 1}}
    found = usable(JudgedSet(queries=queries, judgements=judgements), {"07": "7"})
    assert (found.queries, found.judgements, found.judgement_count) == (queries[:1], {"good": {"7": 2}}, 1)
    left = found.left_out
    assert (left.queries_not_judged, left.queries_without_relevant_rows) == (1, 2)
    assert (left.judgements_of_unknown_queries, left.judgements_of_missing_rows) == (1, 2)
