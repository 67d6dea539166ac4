"""docs/gates.md has every gate there is, in the order in which the database asks them, and what mends it."""

import re
from pathlib import Path

import pytest
from gating import Gated

from pgvmig.pacing.quiet import GATE

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| (\w+) \|(.*)\|$", re.MULTILINE)
CODE = re.compile(r"`([^`]+)`")


@pytest.fixture
def asked(database):
    """What all gates say where most of them fail; each that there is must be asked."""
    table = Gated(database)
    table.add("v1")
    table.add("v2")
    table.execute("ALTER TABLE documents DISABLE TRIGGER USER")
    table.execute("INSERT INTO documents VALUES (100, 'new')")
    table.execute("UPDATE documents SET embedding_v2_version_id = 4711 WHERE id = 3")
    asked = table.ask_all()
    names = "SELECT substr(proname, 6) FROM pg_proc WHERE pronamespace = 'pgvmig'::regnamespace AND proname ~ '^gate_'"
    assert {name for (name,) in table.execute(names)} == {result.gate for result in asked}
    return asked


def test_gates_page_is_current(asked):
    page = (ROOT / "docs" / "gates.md").read_text(encoding="utf-8")
    rows = {gate: [cell.strip() for cell in cells.split("|")] for gate, cells in ROW.findall(page) if gate != "gate"}
    assert list(rows) == [*(result.gate for result in asked), GATE]
    assert {gate: cells for gate, cells in rows.items() if len(cells) != 5 or not all(cells)} == {}
    failed = [result for result in asked if not result.passed]
    assert {"capture", "provenance", "coverage", "index", "way_back", "hashes"} <= {result.gate for result in failed}
    mends = {gate: CODE.findall(cells[-1]) for gate, cells in rows.items()}
    assert [r for r in failed if r.gate != "way_back" and not any(code in r.next for code in mends[r.gate])] == []
