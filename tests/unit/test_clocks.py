"""Which clock tells what: the database's for what workers share, a monotonic one for waits, the wall's for neither."""

import re
from pathlib import Path

import pytest

import pgvmig

WALL_CLOCK = re.compile(r"time\.time\(|datetime\.now|\.utcnow|date\.today|perf_counter")
PACKAGE = Path(pgvmig.__file__).parent


@pytest.mark.parametrize("package", ["backfill", "pacing", "layouts", "catalog"])
def test_a_worker_never_looks_at_the_wall_clock(package):
    """NTP and people set it; a step would end leases, or keep them for a day."""
    files = list((PACKAGE / package).rglob("*.py"))
    assert files
    assert [file.name for file in files if WALL_CLOCK.search(file.read_text())] == []


def test_leases_are_told_by_the_databases_clock():
    queries = (PACKAGE.parent / "sql" / "queries" / "backfill.sql").read_text()
    untils = [line for line in queries.splitlines() if re.search(r"\buntil\b\s*(=|>|<)", line) and "--" not in line]
    assert len(untils) > 5
    assert all("clock_timestamp()" in line or "-infinity" in line for line in untils), untils
