"""The demo, small: the whole path with real models, a real standby and live traffic."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.standby, pytest.mark.models, pytest.mark.xdist_group("demo")]


def demo(*arguments: str) -> subprocess.Popen[str]:
    """Start the demo as a user does, as the leader of a process group that Ctrl-C reaches whole."""
    return subprocess.Popen(
        [sys.executable, "-m", "pgvmig", "demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.timeout(280)
def test_a_small_migration_end_to_end(tmp_path: Path) -> None:
    process = demo("--rows", "800", "--html", str(tmp_path / "report.html"), "--json")
    out, err = process.communicate()
    assert process.returncode == 0, err or out
    measured = json.loads(out)
    assert measured["searches_failed"] == 0
    assert measured["searches_wrong_space"] == 0
    assert measured["searches_answered"] > 100
    assert measured["writes"] > 100
    assert measured["rows_embedded"] >= 800
    assert measured["rows"] >= 800
    assert measured["index_scans_old"] > 0
    assert measured["index_scans_new"] > 0
    assert measured["ndcg_at_10_new"] > measured["ndcg_at_10_old"] > 0.3
    assert {"identity", "hashes", "health", "recall", "visibility"} <= set(measured["gates_passed"])
    assert measured["recall_at_10"] >= 0.95
    assert measured["verdict"] == "GO"
    assert measured["rollback_seconds"] > 0
    assert measured["alembic_checks"] == 5
    assert "-            dimensions=256," in measured["model_change"]
    assert "op.add_embedding(\n        'documents',\n        'v2'," in measured["revision"]
    assert measured["report"] == str(tmp_path / "report.html")
    assert "The way back to v1" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_ctrl_c_leaves_nothing_running() -> None:
    process = demo("--rows", "300")
    children: list[psutil.Process] = []
    deadline = time.monotonic() + 120
    while not any("postgres" in child.name() for child in children) and time.monotonic() < deadline:
        time.sleep(0.1)
        children = psutil.Process(process.pid).children(recursive=True)
    assert children, "PostgreSQL was not started"
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in err
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive


def test_more_rows_than_there_are_is_a_usage_error() -> None:
    process = demo("--rows", "10000000", "--json")
    out, _ = process.communicate()
    assert process.returncode == 2
    assert json.loads(out)["error"]["next"].startswith("--rows ")
