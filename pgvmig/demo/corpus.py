"""Passages with judged queries from what every Python carries: the standard library's own documentation.

A docstring's summary is a query, the rest of it the passage that answers it. Sources are parsed, never imported.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sysconfig
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from pgvmig.errors import ConfigError, UsageError

# A transformer's time grows with the text: bodies of up to 1,000 characters rank as well and take 1.6 times as long.
MAX_BODY = 400
MIN_BODY = 80
_SUMMARY_LENGTH = range(15, 201)
# Below that many words a summary is no question that one passage answers ("Return a string.").
_QUERY_WORDS = 4
_RELEVANT, _PARTLY_RELEVANT = 2, 1

_SKIPPED = {"test", "tests", "idlelib", "lib2to3", "turtledemo", "site-packages", "dist-packages", "__pycache__"}
_REFERENCE = Path("pydoc_data", "topics.py")
_PARAGRAPHS = re.compile(r"\n\s*\n")
_SENTENCE = re.compile(r"(.+?[.!?])\s+(?=[A-Z])(.+)", re.DOTALL)
_NOT_FOR_POSTGRESQL = re.compile("[\\0\ud800-\udfff]")
_NAMED = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, slots=True)
class Passage:
    """What is embedded (`body`) and what it documents (`title`, such as `heapq.merge`)."""

    id: int
    title: str
    body: str


@dataclass(frozen=True, slots=True)
class Query:
    """A question and the grades of the passages that answer it, by passage id; all others have grade 0."""

    id: str
    text: str
    relevant: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Corpus:
    passages: tuple[Passage, ...]
    queries: tuple[Query, ...]


@dataclass(frozen=True, slots=True)
class _Document:
    """One docstring: its summary, and the rest of it cut into bodies."""

    title: str
    summary: str
    bodies: tuple[str, ...]


def build(rows: int = 1_500, queries: int = 250) -> Corpus:
    """Return `rows` passages and at most `queries` queries, the same ones each time on the same Python.

    The first thousands are the beginnings of docstrings; what `rows` asks beyond them are their further parts and
    Python's language reference. Raises UsageError when this Python has not so many.
    """
    chosen = _ranked(_library())
    if not 0 < rows <= len(chosen):
        raise UsageError(
            f"{rows:,} rows were asked, and this Python's documentation gives 1 to {len(chosen):,}",
            next_step=f"--rows {min(max(rows, 1), len(chosen))}",
            rows=len(chosen),
        )
    passages: list[Passage] = []
    grades: dict[_Document, dict[int, int]] = {}
    for number, (document, part) in enumerate(chosen[:rows], start=1):
        title = f"{document.title} ({part + 1})" if part else document.title
        passages.append(Passage(number, title, document.bodies[part]))
        grades.setdefault(document, {})[number] = _PARTLY_RELEVANT if part else _RELEVANT
    asked = [document for document in grades if len(document.summary.split()) >= _QUERY_WORDS][:queries]
    return Corpus(
        tuple(passages),
        tuple(Query(f"q{number}", document.summary, grades[document]) for number, document in enumerate(asked, 1)),
    )


@cache  # seconds of parsing, and always the same
def _ranked(library: Path) -> tuple[tuple[_Document, int], ...]:
    return tuple(_in_order_of_worth(_distinct(_documents(library))))


def _library() -> Path:
    library = Path(sysconfig.get_path("stdlib"))
    if not (library / "heapq.py").exists():
        raise ConfigError(
            f"no sources of the standard library in {library}", next_step="use a Python with its .py files"
        )
    return library


def _documents(library: Path) -> Iterator[_Document]:
    """Yield the library's docstrings, then its reference, sorted by title within each."""
    found = (document for path in _sources(library) for document in _docstrings(path, _module_name(library, path)))
    yield from sorted(found, key=lambda document: document.title)
    yield from _reference(library / _REFERENCE)


def _sources(library: Path) -> Iterator[Path]:
    for path in library.rglob("*.py"):
        parts = path.relative_to(library).parts
        if _SKIPPED.isdisjoint(parts) and path != library / _REFERENCE:
            yield path


def _module_name(library: Path, path: Path) -> str:
    return ".".join(path.relative_to(library).with_suffix("").parts).removesuffix(".__init__")


def _docstrings(path: Path, module: str) -> Iterator[_Document]:
    for title, text in _with_titles(_parse(path), module):
        summary, rest = _split(text)
        bodies = tuple(_bodies(rest))
        given_away = summary.rstrip(".").lower() in _one_line(rest).lower()
        if bodies and len(summary) in _SUMMARY_LENGTH and not given_away:
            yield _Document(title, summary, bodies)


def _parse(path: Path) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old escapes in the library's own strings
        try:
            return ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):  # a few files are templates or wrong on purpose
            return ast.Module(body=[], type_ignores=[])


def _with_titles(node: ast.AST, title: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, (ast.Module, *_NAMED)):
        yield title, ast.get_docstring(node) or ""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _NAMED):
            yield from _with_titles(child, f"{title}.{child.name}")
        elif isinstance(child, ast.stmt):
            yield from _with_titles(child, title)


def _split(text: str) -> tuple[str, str]:
    """Return the summary in one line, and the rest: PEP 257's first paragraph, or its first sentence if it is long."""
    first, *others = _PARAGRAPHS.split(text, maxsplit=1)
    sentence = _SENTENCE.fullmatch(first)
    if sentence and len(_one_line(first)) not in _SUMMARY_LENGTH:
        first, others = sentence[1], [sentence[2], *others]
    return _one_line(first), "\n\n".join(others).strip("\n")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _bodies(text: str) -> Iterator[str]:
    """Cut the text between lines into bodies of MIN_BODY to MAX_BODY characters; what is shorter is left out."""
    body = ""
    for line in text.splitlines():
        if body and len(body) + len(line) >= MAX_BODY:
            yield from _if_usable(body)
            body = ""
        body += line[: MAX_BODY - 1] + "\n"
    yield from _if_usable(body)


def _if_usable(body: str) -> Iterator[str]:
    body = body.strip()
    if len(body) >= MIN_BODY and _NOT_FOR_POSTGRESQL.search(body) is None:
        yield body


def _reference(topics: Path) -> Iterator[_Document]:
    """Yield Python's language reference as pydoc carries it, which has text but no summaries."""
    for node in ast.walk(_parse(topics)) if topics.exists() else ():
        if isinstance(node, ast.Dict):
            for key, text in zip(node.keys, node.values, strict=True):
                yield _Document(f"reference.{_constant(key)}", "", tuple(_bodies(_constant(text))))


def _constant(node: ast.expr | None) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else ""


def _distinct(documents: Iterable[_Document]) -> Iterator[_Document]:
    """Leave out documents whose title or summary came before, and of the others bodies that came before."""
    seen: set[str] = set()
    for document in documents:
        summary = document.summary.lower()
        bodies = tuple(dict.fromkeys(body for body in document.bodies if body not in seen))
        if bodies and not {document.title, summary} & seen:
            yield replace(document, bodies=bodies)
            seen.update(bodies, {document.title}, {summary} if summary else ())


def _in_order_of_worth(documents: Iterable[_Document]) -> list[tuple[_Document, int]]:
    """Return (document, part): beginnings of public docstrings, of private ones, further parts, the reference.

    Within each the order is by a hash of the title, so that a small corpus has something of all modules.
    """

    def worth(pair: tuple[_Document, int]) -> tuple[bool, bool, bool, str]:
        document, part = pair
        private = any(name.startswith("_") for name in document.title.split("."))
        digest = hashlib.sha256(f"{document.title} {part}".encode()).hexdigest()
        return not document.summary, part > 0, private, digest

    return sorted(((document, part) for document in documents for part in range(len(document.bodies))), key=worth)
