"""Limits: what they take, from where, and what they refuse."""

import json
from datetime import timedelta

import pytest

from pgvmig.errors import ConfigError
from pgvmig.pacing.limits import DEFAULTS, Limits, parsed, settings, to_json
from pgvmig.pacing.registry import SIGNALS


def test_every_limit_says_what_it_is_and_which_incident_it_prevents():
    for setting in settings():
        assert setting.metadata["help"]
        assert setting.metadata["incident"]
        assert setting.metadata["help"] != setting.metadata["incident"]


def test_the_limits_of_the_signals_exist_and_those_of_the_controller_are_no_signals():
    names = {setting.name for setting in settings()}
    of_signals = {name for signal in SIGNALS for name in signal.limits}
    assert of_signals <= names
    assert names - of_signals == {
        "resume_ratio",
        "critical_ratio",
        "target_time",
        "nice",
        "patience",
        "interval",
    }


def test_changed_leaves_the_rest_and_the_original_alone():
    changed = DEFAULTS.changed(max_lag=timedelta(milliseconds=800), nice=1)
    assert (changed.max_lag, changed.nice) == (timedelta(milliseconds=800), 1)
    assert (DEFAULTS.max_lag, DEFAULTS.nice) == (timedelta(seconds=1.5), 0)
    assert changed.changed(max_lag=DEFAULTS.max_lag, nice=DEFAULTS.nice) == DEFAULTS


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"max_lag": "800ms"}, {"max_lag": timedelta(milliseconds=800)}),
        ({"max_lag": 2}, {"max_lag": timedelta(seconds=2)}),
        ({"max_lag": 0.25}, {"max_lag": timedelta(milliseconds=250)}),
        ({"stop_horizon_age": "2h"}, {"stop_horizon_age": timedelta(hours=2)}),
        ({"max_lag_bytes": "32MB"}, {"max_lag_bytes": 32 * 1024**2}),
        ({"max_lag_bytes": "1.5 GB"}, {"max_lag_bytes": 3 * 1024**3 // 2}),
        ({"max_wal_rate": 1000}, {"max_wal_rate": 1000}),
        ({"max_archive_backlog": "7"}, {"max_archive_backlog": 7}),
        ({"nice": "1.5"}, {"nice": 1.5}),
        ({"max_slot_wal": None}, {"max_slot_wal": None}),
        ({"max_slot_wal": "off"}, {"max_slot_wal": None}),
    ],
)
def test_json_and_toml_are_understood(given, found):
    assert parsed(given, live=True) == found
    DEFAULTS.changed(**found)


def test_what_is_written_to_the_database_is_read_again():
    changed = {"max_lag": timedelta(milliseconds=800), "nice": 1.0, "max_wal_rate": None, "max_slot_wal": 4096}
    assert parsed(json.loads(json.dumps(to_json(changed))), live=True) == changed


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"max_lagg": 1}, "there is no limit 'max_lagg'"),
        ({"max_lag": "fast"}, "max_lag is 'fast'. Next: give a time span, such as 800ms, 90s or 1h"),
        ({"max_lag": "5 parsecs"}, "max_lag is '5 parsecs'"),
        ({"max_lag": True}, "max_lag is True"),
        ({"max_lag": -1}, "Next: give at least 0:00:00"),
        ({"max_lag": None}, "max_lag cannot be switched off"),
        ({"max_lag_bytes": "off"}, "max_lag_bytes cannot be switched off"),
        ({"max_archive_backlog": 1.5}, "max_archive_backlog is 1.5. Next: give a whole number"),
        ({"max_slot_wal": 0}, "max_slot_wal is 0. Next: give at least 1"),
        ({"resume_ratio": 1.1}, "resume_ratio is 1.1. Next: give at least 0 and at most 1.0"),
        ({"critical_ratio": 0.5}, "critical_ratio is 0.5. Next: give at least 1.0"),
        ({"interval": 0}, "Next: give at least 0:00:00.010000"),
        ({"interval": "1h"}, "Next: give at least 0:00:00.010000 and at most 0:00:05"),
        ({"nice": []}, "nice is []. Next: give a number"),
        ({"nice": float("nan")}, "nice is nan"),
        ({"max_lag": float("inf")}, "max_lag is inf"),
    ],
)
def test_what_is_wrong_is_refused(given, said):
    with pytest.raises(ConfigError) as raised:
        parsed(given, live=False)
    assert said in str(raised.value)


@pytest.mark.parametrize("name", ["custom_sql", "pause_file", "disk_path"])
def test_what_reads_files_or_runs_statements_never_comes_from_the_database(name):
    assert parsed({name: "x"}, live=False) == {name: "x"}
    with pytest.raises(ConfigError) as raised:
        parsed({name: "x"}, live=True)
    assert str(raised.value) == (
        f"{name} cannot be changed in the database. Whoever may slow a worker down must not be able to make it read "
        "files or run statements. Next: set it where the worker is started"
    )


def test_limits_that_contradict_each_other():
    with pytest.raises(ConfigError, match="stop_horizon_age is less than max_horizon_age"):
        Limits(max_horizon_age=timedelta(hours=2))
    Limits(max_horizon_age=timedelta(hours=2), stop_horizon_age=None)


def test_values_of_another_type_are_refused_in_code_as_well():
    with pytest.raises(ConfigError, match=r"max_lag is 1\.5\. Next: give a time span"):
        Limits(max_lag=1.5)
    with pytest.raises(ConfigError, match="there is no limit 'lag'"):
        DEFAULTS.changed(lag=timedelta(seconds=1))
