"""Reading judged queries from files: JSON lines for queries, TREC's or BEIR's tables for judgements."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pgvmig.errors import UsageError
from pgvmig.evaluation.judged import JudgedSet, Query

# What PostgreSQL's text cannot store: NUL and halves of surrogate pairs.
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_HEADERS = {"query-id", "query_id", "queryid", "qid", "query", "topic"}
_GRADE = re.compile(r"[+-]?\d{1,9}")
# BEIR's columns are query, document and grade; TREC has an iteration, which nobody uses, after the query.
_BEIR, _TREC = 3, 4
_SHOWN = 60


def read(queries: Path, judgements: Path | None) -> JudgedSet:
    """Return the judged set of the files. Raises UsageError with file, line and what was found there."""
    return JudgedSet(queries=tuple(read_queries(queries)), judgements=read_judgements(judgements) if judgements else {})


def read_queries(path: Path) -> list[Query]:
    """Return the queries of a file, a JSON object a line: `id` (or `_id`), `text`, and perhaps `group`, `sql`, ..."""
    found: dict[str, Query] = {}
    for number, line in _lines(path):
        query = _query(path, number, _json_object(path, number, line))
        if query.id in found:
            raise _wrong(path, number, f"the query {query.id!r} is there a second time", "give every query its own id")
        found[query.id] = query
    if not found:
        raise UsageError(f"{path} has no queries", next_step='write a line for each: {"id": "1", "text": "..."}')
    return list(found.values())


def read_judgements(path: Path) -> dict[str, dict[str, int]]:
    """Return grades by query and document. Grades below 0, as TREC has them for spam, count as 0."""
    found: dict[str, dict[str, int]] = {}
    for row, (number, line) in enumerate(_lines(path)):
        cells = _cells(line)
        if row == 0 and cells[0].lower() in _HEADERS:
            continue
        query, document, grade = _judgement(path, number, cells)
        before = found.setdefault(query, {}).setdefault(document, grade)
        if before != grade:
            raise _wrong(
                path, number, f"{document!r} answers {query!r} with grade {grade}, and with {before} above", "keep one"
            )
    if not found:
        raise UsageError(f"{path} has no judgements", next_step="write a line for each: query, document, grade")
    return found


def _query(path: Path, number: int, given: Mapping[str, Any]) -> Query:
    name = given.get("id", given.get("_id"))
    if isinstance(name, bool) or not isinstance(name, str | int) or str(name) == "":
        raise _wrong(path, number, "a query without an id", 'begin it as {"id": "1", "text": ...}')
    texts = {key: given.get(key) for key in ("text", "group", "sql")}
    for key, text in texts.items():
        if text is not None and not isinstance(text, str):
            raise _wrong(path, number, f"{key} is {_short(text)}", f"{key} is a text, in quotes")
    if not (texts["text"] or "").strip():
        raise _wrong(path, number, f"the query {str(name)!r} has no text", "a search needs a text to embed")
    query = Query(
        id=str(name),
        text=str(texts["text"]),
        group=texts["group"],
        sql=texts["sql"],
        parameters=_parameters(path, number, given.get("parameters", {})),
    )
    if any(isinstance(text, str) and _NO_TEXT.search(text) for text in _leaves(query.as_json())):
        raise _wrong(path, number, "a character that is no text (NUL or half of a surrogate pair)", "take it out")
    return query


def _parameters(path: Path, number: int, given: Any) -> dict[str, Any]:
    plain = isinstance(given, dict) and all(isinstance(v, str | int | float | bool | None) for v in given.values())
    if not plain:
        raise _wrong(path, number, f"parameters is {_short(given)}", 'write {"name": value}, values being no lists')
    return dict(given)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield key
            yield from _leaves(part)
    else:
        yield value


def _judgement(path: Path, number: int, cells: list[str]) -> tuple[str, str, int]:
    if len(cells) not in (_BEIR, _TREC) or not all(cells):
        raise _wrong(
            path, number, f"{len(cells)} columns: {_short(' '.join(cells))}", "write query, document and grade"
        )
    query, document, grade = cells[0], cells[-2], cells[-1]
    if not _GRADE.fullmatch(grade):
        raise _wrong(path, number, f"the grade {_short(grade)}", "a grade is a whole number; 0 is not relevant")
    if _NO_TEXT.search(query + document):
        raise _wrong(path, number, "a character that is no text (NUL)", "take it out")
    return query, document, max(int(grade), 0)


def _cells(line: str) -> list[str]:
    """Return the columns: between tabs where there are any, so that ids may hold spaces."""
    return [cell.strip() for cell in line.split("\t")] if "\t" in line else line.split()


def _json_object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line, parse_constant=_refuse_constant)
    except ValueError as error:
        raise _wrong(path, number, f"no JSON: {_short(line)}", 'write {"id": "1", "text": "..."}') from error
    if not isinstance(value, dict):
        raise _wrong(path, number, f"no JSON object: {_short(line)}", 'write {"id": "1", "text": "..."}')
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank, with their numbers."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                text = _decoded(path, number, line).strip("\r\n")
                if text.strip():
                    yield number, text
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", next_step="check the path") from error


def _decoded(path: Path, number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise _wrong(path, number, "no UTF-8", "save the file as UTF-8") from error


def _wrong(path: Path, number: int, found: str, next_step: str) -> UsageError:
    return UsageError(f"{path}, line {number}: {found}", next_step=next_step, file=str(path), line=number)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
