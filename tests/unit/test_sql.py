"""What lies in sql/: every file is found, split and filled in, and keeps to the rules that its readers rely on."""

import re
from string import Formatter

import pytest
from psycopg import sql as pg

from pgvmig import sql

QUERIES = [(path.stem, name) for path in sql.files("queries") for name in sql._blocks(path.stem)]
STATEMENTS = [
    pytest.param(statement, id=f"{path.stem}-{number}")
    for folder in ("schema", "functions")
    for path in sql.files(folder)
    for number, statement in enumerate(sql.statements(path), 1)
]
FUNCTIONS = [
    pytest.param(statement, id=re.search(r"FUNCTION pgvmig\.(\w+)", statement)[1])
    for path in sql.files("functions")
    for statement in sql.statements(path)
    if "CREATE OR REPLACE FUNCTION" in statement
]


def without_comments(statement):
    return "\n".join(line for line in statement.splitlines() if not line.lstrip().startswith("--")).strip()


def test_schema_files_are_numbered_without_gaps():
    numbers = [path.name[:4] for path in sql.files("schema")]
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_statements_are_whole(statement):
    text = without_comments(statement)
    assert re.match(r"(CREATE|ALTER|COMMENT|GRANT|REVOKE|INSERT|DROP TRIGGER IF EXISTS) ", text)
    assert text.count("$$") in (0, 2)
    assert not text.endswith(";")
    outside = re.sub(r"\$\$.*\$\$", "", text, flags=re.DOTALL)
    assert ";" not in re.sub(r"'[^']*'|--.*|BEGIN ATOMIC.*END", "", outside, flags=re.DOTALL)


@pytest.mark.parametrize("statement", FUNCTIONS)
def test_functions_fix_their_search_path_or_have_no_name_to_look_up_later(statement):
    # a body in standard SQL is parsed, and its names are resolved, when the function is created
    parsed = re.search(r"^(RETURN|BEGIN ATOMIC)\b", statement, re.MULTILINE)
    assert parsed or "\nSET search_path = pg_catalog, pg_temp\n" in statement


@pytest.mark.parametrize("statement", FUNCTIONS)
def test_functions_say_what_they_are_for_or_are_short(statement):
    assert statement.startswith("--") or len(statement.splitlines()) <= 20


@pytest.mark.parametrize(("file", "name"), QUERIES)
def test_queries_are_filled_in_and_commented_or_short(file, name):
    block = sql._blocks(file)[name]
    parts = {part for _, part, _, _ in Formatter().parse(block) if part}
    text = sql.text(sql.query(file, name, **{part: pg.Identifier(f"<{part}>") for part in parts}))
    assert "{" not in re.sub(r"'\{[^']*\}'", "", text), "but for paths into JSON"
    assert all(f'"<{part}>"' in text for part in parts)
    lines = [line for line in block.splitlines() if line.strip()]
    assert lines[0].startswith("--") or len(lines) <= 12, "a long query says what it is for"


def test_names_of_queries_are_unique_in_their_file():
    for path in sql.files("queries"):
        names = re.findall(r"^-- name: (\w+)", path.read_text(), re.MULTILINE)
        assert len(names) == len(set(names)) == len(sql._blocks(path.stem))


def test_plain_strings_become_quoted_identifiers():
    composed = sql.query("adding", "lock_statement", table='docu"ments', mode=pg.SQL("ACCESS EXCLUSIVE"))
    assert sql.text(composed).endswith('LOCK TABLE "docu""ments" IN ACCESS EXCLUSIVE MODE')
    assert sql.text(sql.qualified("a.b", "c")) == '"a.b"."c"'


def test_a_part_that_is_not_given_is_an_error():
    with pytest.raises(KeyError, match="table"):
        sql.query("adding", "lock_statement")


def test_statements_end_with_a_semicolon_before_an_empty_line(tmp_path):
    file = tmp_path / "x.sql"
    file.write_text("-- one\nSELECT 1;\nSELECT 2;\n\n-- three\nSELECT ';\n';  \n\n\nSELECT 4;\n")
    assert sql.statements(file) == ["-- one\nSELECT 1;\nSELECT 2", "-- three\nSELECT ';\n'", "SELECT 4"]
