"""The line beside the progress bar, and limits as options."""

from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner

from pgvmig.cli import limits
from pgvmig.cli.progress import Rate, describe, span
from pgvmig.errors import ConfigError
from pgvmig.pacing.configured import configured, written
from pgvmig.pacing.controller import Pace, State
from pgvmig.pacing.limits import parsed, settings


def at(**changed):
    position = SimpleNamespace(next_block=25, end_block=100, walked=False)
    pace = Pace(State.RUNNING, 0.0)
    given = {"rows": 10_000, "position": position, "pace": pace, "trouble": None, "waiting": None}
    return SimpleNamespace(counters=SimpleNamespace(written=2400), **given | changed)


def test_says_how_far_it_is_and_how_long_it_takes():
    assert describe(at(), 100.0) == "2,400 of about 10,000 rows, 100 rows/s, about 75 s left"
    assert describe(at(rows=None), 100.0) == "2,400 rows, 100 rows/s"
    assert describe(at(), None) == "2,400 of about 10,000 rows"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"pace": Pace(State.HOLDING, 0.0, "lag", "s1 is 1 s behind")}, "holding: s1 is 1 s behind"),
        ({"pace": Pace(State.STOPPED, 0.0, "lag", "s1 is 2 s behind")}, "stopped: s1 is 2 s behind"),
        ({"pace": Pace(State.RUNNING, 0.0, "vacuum", "a vacuum runs")}, "a vacuum runs"),
        ({"trouble": "it answered 503 (attempt 2, for 3 s)"}, "asks again: it answered 503 (attempt 2, for 3 s)"),
        ({"waiting": "connecting again in 2 s"}, "waits: connecting again in 2 s"),
    ],
)
def test_says_what_is_in_the_way(changed, said):
    assert describe(at(**changed), None) == f"2,400 of about 10,000 rows, {said}"


def test_the_rate_is_of_the_last_half_minute():
    now = [0.0]
    rate = Rate(lambda: now[0])
    assert rate.add(0) is None
    for second in range(1, 101):
        now[0] = float(second)
        found = rate.add(second * 10 if second <= 50 else 500 + (second - 50) * 2)
    assert found == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("seconds", "said"), [(3, "3 s"), (119, "119 s"), (600, "10 min"), (9000, "2.5 h"), (200_000, "2.3 days")]
)
def test_spans(seconds, said):
    assert span(seconds) == said


def test_every_limit_is_an_option_and_can_be_written_as_it_is_read():
    @click.command()
    @limits.options()
    def command(**values):
        assert limits.given(values) == numbers

    chosen = [setting for setting in settings() if setting.metadata["kind"] not in ("path", "sql")]
    numbers = {setting.name: setting.default for setting in chosen}
    arguments = [f"--{s.name.replace('_', '-')}={written(s, s.default)}" for s in chosen]
    assert CliRunner().invoke(command, arguments, catch_exceptions=False).exit_code == 0


def test_what_cannot_be_changed_while_a_worker_runs_is_no_option_of_throttle():
    @click.command()
    @limits.options(live=True)
    def command(**values):
        pass

    names = {parameter.name for parameter in command.params}
    assert names == {setting.name for setting in settings() if setting.metadata["live"]}
    assert "custom_sql" not in names


@pytest.mark.parametrize(
    ("value", "text"),
    [("0.25s", "250ms"), ("90s", "90s"), ("2h", "2h"), ("300s", "5min"), ("1.5s", "1.5s"), ("0s", "0s")],
)
def test_time_spans_are_written_short(value, text):
    (setting,) = (s for s in settings() if s.name == "patience")
    assert written(setting, parsed({"patience": value}, live=True)["patience"]) == text


class TestConfigured:
    def test_the_environment_wins_over_the_file(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "pgvmig.toml").write_text('[pacing]\nnice = 1\nmax_lag_bytes = "1GB"\nmax_slot_wal = "off"\n')
        monkeypatch.setenv("PGVMIG_PACING_NICE", "2.5")
        monkeypatch.setenv("PGVMIG_PACING_API_KEY", "of a provider that is called pacing")
        found = configured()
        assert (found.limits.nice, found.limits.max_lag_bytes, found.limits.max_slot_wal) == (2.5, 1024**3, None)
        assert found.sources == {
            "nice": "PGVMIG_PACING_NICE",
            "max_lag_bytes": "pgvmig.toml: max_lag_bytes",
            "max_slot_wal": "pgvmig.toml: max_slot_wal",
        }

    def test_a_misspelt_variable_is_refused(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("PGVMIG_PACING_MAXLAG", "1s")
        with pytest.raises(ConfigError, match="PGVMIG_PACING_MAXLAG: there is no limit 'maxlag'"):
            configured()
