"""In CI a skipped standby, PostgreSQL 16 or kill test is a failure; other skips, and other places, are not."""

import pytest

pytest_plugins = ["pytester"]

SKIPPING = """
import pytest

{mark}
def test_skips():
    pytest.skip("no standby here")
"""


def run(pytester, source):
    pytester.makeini("[pytest]\nmarkers =\n  standby\n  pg16\n  kill\n")
    pytester.makepyfile(source)
    return pytester.runpytest("-p", "no_skips", "-p", "no:cacheprovider", "-rs")


@pytest.mark.parametrize("mark", ["standby", "pg16", "kill"])
def test_marked_skip_fails_in_ci(pytester, monkeypatch, mark):
    monkeypatch.setenv("PGVMIG_NO_SKIPS", "1")
    result = run(pytester, SKIPPING.format(mark=f"@pytest.mark.{mark}"))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*marked {mark}, which PGVMIG_NO_SKIPS=1 forbids to skip. *no standby here*"])


@pytest.mark.parametrize("setting", ["", "0"])
def test_marked_skip_is_a_skip_elsewhere(pytester, monkeypatch, setting):
    monkeypatch.setenv("PGVMIG_NO_SKIPS", setting)
    run(pytester, SKIPPING.format(mark="@pytest.mark.standby")).assert_outcomes(skipped=1)


def test_other_skips_stay_skips_in_ci(pytester, monkeypatch):
    monkeypatch.setenv("PGVMIG_NO_SKIPS", "1")
    run(pytester, SKIPPING.format(mark="")).assert_outcomes(skipped=1)


def test_skip_in_a_fixture_and_by_mark_fail_too(pytester, monkeypatch):
    monkeypatch.setenv("PGVMIG_NO_SKIPS", "1")
    source = """
import pytest

pytestmark = pytest.mark.standby

@pytest.fixture
def server():
    pytest.skip("cannot start")

def test_fixture(server): ...

@pytest.mark.skip(reason="not today")
def test_mark(): ...

@pytest.mark.xfail(strict=True, reason="known")
def test_expected_failure():
    assert False
"""
    result = run(pytester, source)
    # A skip before the test proper counts as an error to pytest.
    result.assert_outcomes(errors=2, xfailed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_module_that_skips_itself_fails(pytester, monkeypatch):
    monkeypatch.setenv("PGVMIG_NO_SKIPS", "1")
    result = run(pytester, "import pytest\npytest.skip('nothing here', allow_module_level=True)")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*a whole module, which PGVMIG_NO_SKIPS=1 forbids to skip. *nothing here*"])
