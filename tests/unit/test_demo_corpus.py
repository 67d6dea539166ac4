"""The demo's corpus: from a library of our own to the last word, and from this Python's own as it is."""

import hashlib
import subprocess
import sys

import pytest

from pgvmig.demo import corpus
from pgvmig.errors import ConfigError, UsageError

# Reading the whole of Python takes seconds: all that look at it do so in one process.
pytestmark = pytest.mark.xdist_group("corpus")

# Long enough to be a passage, and no part of any summary here.
TEXT = "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut {}."


@pytest.fixture(scope="module")
def whole():
    return corpus.build()


@pytest.fixture
def library(tmp_path, monkeypatch):
    """Return a function that makes a standard library of these files; `____` in a name is a folder's end."""

    def write(**files):
        for name, content in {"heapq": "", **files}.items():
            path = tmp_path.joinpath(*name.split("____")).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    monkeypatch.setattr(corpus.sysconfig, "get_path", {"stdlib": str(tmp_path)}.__getitem__)
    return write


def documented(summary, rest, indent=""):
    return f'{indent}"""{summary}\n\n{rest}\n{indent}"""\n'


def titles(rows):
    return {passage.title for passage in corpus.build(rows).passages}


def test_there_is_enough_of_it(whole):
    assert [passage.id for passage in whole.passages] == list(range(1, 1501))
    assert len(whole.queries) == 250
    assert len({passage.body for passage in whole.passages}) == 1500
    assert len({passage.title for passage in whole.passages}) == 1500
    assert len({query.text.lower() for query in whole.queries}) == 250
    assert {query.id for query in whole.queries} == {f"q{number}" for number in range(1, 251)}


def test_bodies_fit_a_model_and_a_database(whole):
    bodies = [passage.body for passage in whole.passages]
    assert all(corpus.MIN_BODY <= len(body) <= corpus.MAX_BODY for body in bodies)
    assert not any("\0" in body for body in bodies)
    "".join(bodies).encode()


def test_no_passage_gives_its_query_away(whole):
    bodies = {passage.id: " ".join(passage.body.split()).lower() for passage in whole.passages}
    for query in whole.queries:
        assert query.relevant
        assert not any(query.text.rstrip(".").lower() in bodies[passage] for passage in query.relevant)


def test_a_passage_that_everybody_knows(library):
    summary = "Merge multiple sorted inputs into a single sorted output."
    rest = "Similar to sorted(itertools.chain(*iterables)) but returns a generator, and does not pull the data at once."
    library(heapq=f"def merge(*iterables):\n{documented(summary, '    ' + rest, '    ')}")
    assert corpus.build(1) == corpus.Corpus(
        (corpus.Passage(1, "heapq.merge", rest),), (corpus.Query("q1", summary, {1: 2}),)
    )


def test_the_same_python_gives_the_same_corpus(whole):
    script = """
import hashlib, sys
from pgvmig.demo import corpus
print(hashlib.sha256(repr(corpus.build()).encode()).hexdigest(), "turtle" in sys.modules, "antigravity" in sys.modules)
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True).stdout.split()
    assert said == [hashlib.sha256(repr(whole).encode()).hexdigest(), "False", "False"]


def test_a_smaller_corpus_is_the_beginning_of_a_larger_one(whole):
    small = corpus.build(400, 100)
    assert small.passages == whole.passages[:400]
    assert small.queries == whole.queries[:100]
    assert len(corpus.build(20).queries) <= 20


def test_more_rows_are_further_parts_of_long_documentation(whole):
    large = corpus.build(3000, 250)
    parts = [passage for passage in large.passages if passage.title.endswith(" (2)")]
    assert len(large.passages) == len({passage.body for passage in large.passages}) == 3000
    assert parts
    assert [query.text for query in large.queries] == [query.text for query in whole.queries]
    assert any(set(query.relevant.values()) == {1, 2} for query in large.queries)


@pytest.mark.parametrize(("rows", "instead"), [(1_000_000, None), (0, 1), (-1, 1)])
def test_other_numbers_of_rows_are_refused_with_the_number_there_is(rows, instead):
    with pytest.raises(UsageError) as error:
        corpus.build(rows)
    most = error.value.data["rows"]
    assert most >= 3000
    assert str(error.value) == (
        f"{rows:,} rows were asked, and this Python's documentation gives 1 to {most:,}. Next: --rows {instead or most}"
    )
    assert len(corpus.build(most).passages) == most


def test_a_python_without_sources(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus.sysconfig, "get_path", {"stdlib": str(tmp_path)}.__getitem__)
    with pytest.raises(ConfigError) as error:
        corpus.build()
    assert str(error.value) == (
        f"no sources of the standard library in {tmp_path}. Next: use a Python with its .py files"
    )


def test_everything_with_a_docstring_is_read(library):
    library(
        package______init__=documented("The package as such does this.", TEXT.format("a")),
        package____module="class Thing:\n"
        + documented("A thing of some kind it is.", "    " + TEXT.format("b"), "    ")
        + "    if True:\n        async def run(self):\n"
        + documented("Runs until it is told to stop.", "            " + TEXT.format("c"), "            "),
    )
    assert titles(3) == {"package", "package.module.Thing", "package.module.Thing.run"}
    with pytest.raises(UsageError):
        corpus.build(4)


def test_tests_and_what_is_no_python_are_left_out(library):
    good = documented("This one is the only one.", TEXT.format("good"))
    library(
        right=good,
        test____wrong=documented("Tests are not documentation.", TEXT.format("test")),
        idlelib____wrong=documented("Neither is an editor of code.", TEXT.format("idle")),
        broken=b'"""Syntax errors are skipped.\n\n' + TEXT.encode() + b'\n"""\nprint "hello"\n',
        binary=b"\xff\xfe\0",
    )
    assert titles(1) == {"right"}
    with pytest.raises(UsageError):
        corpus.build(2)


@pytest.mark.parametrize(
    ("summary", "rest"),
    [
        ("Too short.", TEXT),
        ("The rest is too short for a passage.", "Lorem ipsum."),
        ("This summary comes again in the rest.", "This summary comes again\nin the rest. " + TEXT),
        ("The rest cannot be stored as a text.", TEXT + "\\0"),
        ("The rest cannot be written as UTF-8.", TEXT + "\\ud800"),
    ],
)
def test_what_makes_no_passage(library, summary, rest):
    library(a=documented("This one is the only one.", TEXT.format("good")), b=documented(summary, rest))
    assert titles(1) == {"a"}
    with pytest.raises(UsageError):
        corpus.build(2)


def test_what_is_there_twice_is_taken_once(library):
    library(
        a=documented("This one is the first of all.", TEXT.format("a")),
        b=documented("This one is The First of all.", TEXT.format("b")),
        c=documented("This has the first one's text.", TEXT.format("a")),
    )
    assert titles(1) == {"a"}
    with pytest.raises(UsageError):
        corpus.build(2)


def test_short_summaries_are_passages_without_queries(library):
    library(a=documented("Return a string.", TEXT))
    assert len(corpus.build(1).passages) == 1
    assert corpus.build(1).queries == ()


def test_parts_and_their_grades(library):
    lines = [TEXT.format(number) for number in range(10)]
    library(a=documented("A long story about ten lines.", "\n".join(lines)))
    built = corpus.build(3)
    assert built.passages[0].title == "a"
    assert {passage.title for passage in built.passages} == {"a", "a (2)", "a (3)"}
    assert built.queries[0].relevant == {1: 2, 2: 1, 3: 1}
    bodies = {passage.title: passage.body for passage in built.passages}
    assert bodies["a"] == "\n".join(lines[:4])
    assert bodies["a (2)"] == "\n".join(lines[4:8])
    assert bodies["a (3)"] == "\n".join(lines[8:])


def test_public_comes_before_private_and_the_reference_last(library):
    library(
        _a=documented("This one is hidden from view.", TEXT.format("a")),
        z=documented("This one is there to be seen.", "\n".join(TEXT.format(number) for number in range(5))),
        pydoc_data____topics=f"topics = {{'assert': {TEXT.format('r')!r}, 'short': 'no'}}\n",
    )
    assert [passage.title for passage in corpus.build(4).passages] == ["z", "_a", "z (2)", "reference.assert"]
    assert [query.text for query in corpus.build(4).queries] == [
        "This one is there to be seen.",
        "This one is hidden from view.",
    ]


@pytest.mark.parametrize(
    ("text", "summary", "rest"),
    [
        ("One line.\n\nThe rest.\n\nMore.", "One line.", "The rest.\n\nMore."),
        ("Over two\nlines.\n \nThe rest.", "Over two lines.", "The rest."),
        ("No rest.", "No rest.", ""),
        ("", "", ""),
        ("One sentence. Another one.\n\nThe rest.", "One sentence. Another one.", "The rest."),
        (
            "One sentence. " + "Another one. " * 20 + "\n\nThe rest.",
            "One sentence.",
            "Another one. " * 20 + "\n\nThe rest.",
        ),
        ("e.g. one word. " + "x " * 100, "e.g. one word. " + "x " * 99 + "x", ""),
    ],
)
def test_a_summary_is_the_first_paragraph_or_of_a_long_one_the_first_sentence(text, summary, rest):
    assert corpus._split(text) == (summary, rest)
