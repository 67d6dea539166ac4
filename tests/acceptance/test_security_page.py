"""docs/security.md has the rights that the roles really get, and its statements run in their order."""

import re
from collections import defaultdict
from pathlib import Path

import pytest
from lifecycle import add_version, install
from migrating import OwnProject
from psycopg import sql

from pgvmig.catalog import roles
from pgvmig.runner import ConnectionRunner

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ORDER = ["SELECT", "INSERT", "UPDATE", "DELETE"]
DUTIES = ["reader", "worker", "operator"]
MADE = ["app_search", "app_backfill", "app_on_call", "app_migrator", "app_owner"] + [
    f"{prefix}_{duty}" for prefix in ("pgvmig", "page") for duty in (*DUTIES, "admin")
]


@pytest.fixture
def connection(database):
    """A database whose roles are dropped at the end, being the cluster's."""
    connection = database.connect()
    install(connection)
    yield connection
    connection.execute("DROP SCHEMA pgvmig CASCADE; DROP TABLE IF EXISTS documents, others CASCADE")
    for name in MADE:
        if connection.execute("SELECT to_regrole(%s)", [name]).fetchone() != (None,):
            connection.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(name)))


def test_its_statements_run(connection, database, tmp_path):
    (before, after) = [text for kind, text in BLOCK.findall(PAGE) if kind == "sql"]
    (revision,) = [text for kind, text in BLOCK.findall(PAGE) if kind == "python"]
    connection.execute(before)
    project = OwnProject(database.url, tmp_path)
    project.revision("pass")
    path = tmp_path / "versions" / "r1.py"
    path.write_text(path.read_text().split("def upgrade")[0] + revision)
    project.upgrade()
    connection.execute(after)
    project.downgrade("base")
    assert roles.rights(ConnectionRunner(connection)) == []


def test_the_table_of_rights_is_current(connection):
    connection.execute("CREATE TABLE documents (id int PRIMARY KEY, body text)")
    connection.execute("CREATE TABLE others (id int PRIMARY KEY, body text)")
    add_version(connection, "documents", "v1", layout="column")
    add_version(connection, "others", "v1", layout="table")
    roles.create(ConnectionRunner(connection), "page", allow_superuser=True)
    found = defaultdict(lambda: defaultdict(set))
    for right in roles.rights(ConnectionRunner(connection)):
        found[place(right.object)][right.duty].add((right.privilege, right.columns is not None, right.object))
    table = PAGE.split("<!-- rights:")[1].split("\n\n")[0].splitlines()[3:]
    rows = {cells[0]: cells[1:] for cells in ([c.strip() for c in line.strip("|").split("|")] for line in table)}
    special = {name: rows.pop(name) for name in ("other control tables", "functions")}
    functions = {duty: ", ".join(sorted(name(o) for _, _, o in found["functions"][duty])) for duty in DUTIES}
    assert special["functions"] == [
        functions[duty].replace("become_ready, begin_backfill", "begin_backfill, become_ready") for duty in DUTIES
    ]
    others = {place for place in found if place not in rows and place != "functions"}
    assert {words(found[place][duty]) for place in others for duty in DUTIES} == {"", "SELECT"}
    assert special["other control tables"] == ["", "", "SELECT"]
    assert {row: [words(found[row][duty]) for duty in DUTIES] for row in rows} == rows


def place(relation):
    """What the page calls it."""
    known = {
        "documents": "the table", "others": "the table", "others_v1_vectors": "the table of vectors",
        "documents_v1": "the views", "others_v1": "the views",
    }  # fmt: skip
    if "(" in relation:
        return "functions"
    if re.fullmatch(r"pgvmig\..*_v1_(stale|outcome)", relation):
        return "the version's stale log and outcomes"
    return known.get(relation, relation.removeprefix("pgvmig."))


def name(function):
    return function.removeprefix("pgvmig.").split("(")[0]


def words(rights):
    """`SELECT; UPDATE of columns`."""
    whole = [p for p in ORDER if any(r[:2] == (p, False) for r in rights)]
    some = [p for p in ORDER if any(r[:2] == (p, True) for r in rights)]
    return "; ".join(part for part in (", ".join(whole), ", ".join(some) + " of columns" if some else "") if part)
