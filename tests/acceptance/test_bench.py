"""`make bench`, tiny: every measurement can still be made. Its figures mean nothing and are not looked at."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.__main__ import MEASUREMENTS, PEERS
from bench.report import markers

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "performance.md"
SECTIONS = {"bench": MEASUREMENTS, "bench-peers": PEERS}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the benchmark as make does."""
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.timeout(280)
def test_every_measurement_can_be_made() -> None:
    done = run("--quick", "--json")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert [measured["name"] for measured in content["measured"]] == [measurement.name for measurement in MEASUREMENTS]
    for measured in content["measured"]:
        assert measured["figures"], measured["name"]
        for figure in measured["figures"]:
            assert figure["what"], measured["name"]
            assert figure["samples"], figure["what"]
            assert all(math.isfinite(sample) for sample in figure["samples"]), figure["what"]
            assert figure["met"] in ((None,) if figure["target"] is None else (True, False)), figure["what"]
    assert content["machine"]["PostgreSQL"].startswith("18.")


def test_what_it_prints_for_people() -> None:
    done = run("--quick", "--only", "table-write")
    assert done.returncode == 0, done.stderr
    assert "python -m bench --quick" in done.stdout
    assert re.search(r"table-write +│ raw binary COPY", done.stdout)
    assert "[" in done.stderr  # progress


def test_unknown_names_and_partial_tables_are_refused() -> None:
    unknown = run("--only", "speed")
    assert unknown.returncode == 2
    assert "there is no speed; there are table-write, " in unknown.stderr
    partial = run("--only", "lag", "--write", str(PAGE))
    assert partial.returncode == 2
    assert "--write puts the whole table into a document" in partial.stderr


@pytest.mark.parametrize("section", SECTIONS)
def test_the_page_holds_what_the_command_printed(section: str) -> None:
    begin, end = markers(section)
    table = PAGE.read_text(encoding="utf-8").split(begin)[1].split(end)[0]
    peers = " --peers" if section == "bench-peers" else ""
    assert re.search(f"Printed by `(make {section}|python -m bench{peers}( --[a-z]+ [0-9]+)+)` on: cores: ", table)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]
    assert rows[0] == ["measurement", "figure", "median", "range", "target", "met"]
    assert [row[0] for row in rows[2:] if row[0]] == [measurement.name for measurement in SECTIONS[section]]
    assert all(row[5] in {"yes", "**no**"} if row[4] else not row[5] for row in rows[2:])


def test_the_makefile_has_the_commands() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(re.search(rf"^{section}: setup", makefile, re.MULTILINE) for section in SECTIONS)


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.name)
def test_a_measured_speed_comes_with_its_command(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)  # a block shows what a command printed
    if re.search(r"\d rows(/s| a second| per second)", prose):
        assert re.search(r"make (bench|demo)|pgvmig plan", text), "name the command that prints the figure"
