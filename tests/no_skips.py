"""With PGVMIG_NO_SKIPS=1, as CI sets it, a standby, PostgreSQL 16, kill or stores test that is skipped has failed.

So has a module that skips itself while it is collected: nobody can tell which tests it had.
"""

from __future__ import annotations

import os

import pytest

NEVER_SKIPPED = ("standby", "pg16", "kill", "stores")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    marks = [mark for mark in NEVER_SKIPPED if item.get_closest_marker(mark)]
    # An expected failure is reported as skipped too, and is none.
    if marks and not hasattr(report, "wasxfail"):
        _fail_if_skipped(report, f"marked {marks[0]}")
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    report = yield
    _fail_if_skipped(report, "a whole module")
    return report


def _fail_if_skipped(report, what):
    if report.skipped and os.environ.get("PGVMIG_NO_SKIPS") == "1":
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{what}, which PGVMIG_NO_SKIPS=1 forbids to skip. {reason}"
