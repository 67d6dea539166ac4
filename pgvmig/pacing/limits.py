"""What a worker respects: every limit with its default, and the incident that it prevents. Pure.

Limits come from three places: the defaults here, the worker's own options and configuration, and the database
(`pgvmig.throttle`), which changes them while workers run. What names a file or holds SQL never comes from the database:
whoever may slow a worker down must not be able to make it read files or run statements.
"""

# ruff: noqa: RUF009  # _limit() is dataclasses.field() with our metadata

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, replace
from datetime import timedelta
from typing import Any

from pgvmig.errors import ConfigError

_KB, _MB, _GB = 1024, 1024**2, 1024**3
_UNITS: Mapping[str, float] = {"": 1, "b": 1, "bytes": 1, "kb": _KB, "mb": _MB, "gb": _GB, "tb": 1024 * _GB}
_SPANS: Mapping[str, float] = {"ms": 0.001, "s": 1, "": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
_AMOUNT = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE)


def _limit(kind: str, default: Any, doc: str, incident: str, **more: Any) -> Any:
    return field(default=default, metadata={"kind": kind, "help": doc, "incident": incident, "live": True, **more})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """At a limit is still within it; None, where the type has it, switches a limit off.

    A field's metadata: `kind` (`duration` as timedelta, `bytes` and `count` as int, `ratio` as float, `path` and
    `sql` as str), `help`, `incident`, `live` (whether the database may change it), `least`, `most`.
    Raises ConfigError for a value of another type or out of range.
    """

    max_lag: timedelta = _limit(
        "duration",
        timedelta(seconds=1.5),
        "how far a declared standby may be behind, in time",
        "readers of a standby see rows as they were minutes ago, and a failover takes as long as the standby is behind",
    )
    # About what a standby replays within the time limit, and four segments of WAL: a switch of segments
    # (archive_timeout, pg_switch_wal) sends one that is nearly empty and must not stop anybody.
    max_lag_bytes: int = _limit(
        "bytes",
        64 * _MB,
        "how far a declared standby may be behind, in WAL",
        "a burst between two samples of the time piles up more than the standby can replay in minutes",
    )
    resume_ratio: float = _limit(
        "ratio",
        0.5,
        "a stopped worker goes on when what stopped it is down to this share of its limit",
        "a worker that goes on right below the limit is stopped again at once, and flaps",
        most=1.0,
    )
    critical_ratio: float = _limit(
        "ratio",
        10.0,
        "at this multiple of a limit a worker hibernates, and then ends",
        "what is ten times over its limit has another cause than the worker, which must get out of the way",
        least=1.0,
    )
    target_time: timedelta = _limit(
        "duration",
        timedelta(milliseconds=100),
        "how long a transaction that writes should take; the batch size follows",
        "an application's UPDATE of a row in the batch waits until the batch commits",
        least=timedelta(milliseconds=1),
    )
    nice: float = _limit(
        "ratio",
        0.0,
        "pause after each batch, as a multiple of the time that it took; 1 halves the load",
        "the disk is busy although no signal says so",
    )
    patience: timedelta = _limit(
        "duration",
        timedelta(seconds=300),
        "how long a worker waits while a signal is not OK, before it ends with exit code 4",
        "a worker that waits for ever looks like one that works, and nobody is told that it is stuck",
    )
    # For that long a reading lets batches through, whatever a signal or an operator says meanwhile.
    interval: timedelta = _limit(
        "duration",
        timedelta(milliseconds=250),
        "time between two readings while a worker waits",
        "reading too often is load, reading too rarely lets a batch be written after the signal has turned",
        least=timedelta(milliseconds=10),
        most=timedelta(seconds=5),
    )
    max_slot_wal: int | None = _limit(
        "bytes",
        _GB,
        "WAL that a replication slot may retain",
        "a subscriber that is down retains all the WAL that the backfill writes, and the primary's disk runs full",
        least=1,
    )
    max_sync_wait: timedelta | None = _limit(
        "duration",
        timedelta(seconds=1),
        "how long a session may have been waiting for synchronous replication",
        "commits of the application hang for a synchronous standby that is gone or slow",
    )
    max_archive_backlog: int | None = _limit(
        "count",
        32,
        "WAL files that may wait to be archived",
        "the archive is slower than the backfill, or broken, and pg_wal grows until the disk is full",
        least=1,
    )
    max_blocking: timedelta | None = _limit(
        "duration",
        timedelta(milliseconds=100),
        "how long anybody may be blocked by a session of pgvmig",
        "an application's transaction queues behind a batch, and everybody else behind the application's",
    )
    max_horizon_age: timedelta | None = _limit(
        "duration",
        timedelta(seconds=60),
        "how old the oldest transaction that holds back the xmin horizon may be, before the worker goes at half speed",
        "dead row versions cannot be pruned, updates are no longer HOT, table and indexes bloat",
        least=timedelta(seconds=1),
    )
    stop_horizon_age: timedelta | None = _limit(
        "duration",
        timedelta(hours=1),
        "the same, before the worker stops",
        "a session left open over night lets a backfill rewrite the whole table without reusing a page of it",
        least=timedelta(seconds=1),
    )
    max_wal_rate: int | None = _limit(
        "bytes",
        None,
        "WAL that the whole cluster may write in a second",
        "the network to the replicas, or the archive's bandwidth, is paid for or shared",
        least=1,
    )
    max_pg_wal: int | None = _limit(
        "bytes",
        None,
        "how large the directory pg_wal may be",
        "pg_wal has a volume of its own, and a full one stops the server",
        least=1,
    )
    max_database_size: int | None = _limit(
        "bytes",
        None,
        "how large the database may be",
        "a managed service turns read-only at its storage limit",
        least=1,
    )
    min_free_disk: int | None = _limit(
        "bytes",
        None,
        "free space that must be left on the file system of `disk_path`",
        "PostgreSQL panics when its WAL finds no space",
        least=1,
    )
    disk_path: str | None = _limit(
        "path",
        None,
        "a path on the file system to watch, where the worker runs on the database's own machine",
        "PostgreSQL panics when its WAL finds no space",
        live=False,
    )
    pause_file: str | None = _limit(
        "path",
        None,
        "while this file exists nothing is written",
        "the database is so busy that nobody gets a connection to pause the worker",
        live=False,
    )
    custom_sql: str | None = _limit(
        "sql",
        None,
        "a query of one row and one boolean; anything but true stops the worker, an error as well",
        "only you know what else must be well, such as the length of the application's own queue",
        live=False,
    )

    def __post_init__(self) -> None:
        for setting in fields(self):
            _check(setting, getattr(self, setting.name))
        if None not in (self.max_horizon_age, self.stop_horizon_age) and self.max_horizon_age > self.stop_horizon_age:  # type: ignore[operator]
            raise ConfigError(
                "stop_horizon_age is less than max_horizon_age",
                hazard="The worker would stop before it slows down",
                next_step="set both, or switch max_horizon_age off",
            )

    def changed(self, **overrides: Any) -> Limits:
        """Return these limits with some of them replaced by values of their own types. Raises ConfigError."""
        _known(overrides)
        return replace(self, **overrides)


def settings() -> tuple[Field[Any], ...]:
    """Return the limits with their metadata, in the order in which people want to read about them."""
    return fields(Limits)


def parsed(given: Mapping[str, Any], *, live: bool) -> dict[str, Any]:
    """Return limits as `Limits.changed` takes them, from JSON or TOML.

    Durations are texts such as `800ms` or numbers of seconds, sizes texts such as `64MB` or numbers of bytes, null
    (`"off"` in TOML, which has no null) switches a limit off. `live`: what the database gives, which is not
    everything. Raises ConfigError.
    """
    _known(given)
    found = {name: _parse(_FIELDS[name], value) for name, value in given.items()}
    for name, value in found.items():
        if live and not _FIELDS[name].metadata["live"]:
            raise ConfigError(
                f"{name} cannot be changed in the database",
                hazard="Whoever may slow a worker down must not be able to make it read files or run statements",
                next_step="set it where the worker is started",
                key=name,
            )
        _check(_FIELDS[name], value)
    return found


def to_json(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return limits as plain JSON values: durations in seconds, sizes in bytes; `parsed` reads them again."""
    _known(overrides)
    return {name: value.total_seconds() if isinstance(value, timedelta) else value for name, value in overrides.items()}


_FIELDS = {setting.name: setting for setting in fields(Limits)}
_TYPES: dict[str, type | tuple[type, ...]] = {
    "duration": timedelta,
    "bytes": int,
    "count": int,
    "ratio": (int, float),
    "path": str,
    "sql": str,
}
_EXAMPLES = {
    "duration": "a time span, such as 800ms, 90s or 1h",
    "bytes": "a size, such as 64MB or 2GB",
    "count": "a whole number",
    "ratio": "a number",
    "path": "a path",
    "sql": "a query",
}


def _known(given: Mapping[str, Any]) -> None:
    for name in given:
        if name not in _FIELDS:
            raise ConfigError(
                f"there is no limit {name!r}",
                hazard="A misspelt limit would silently leave its default in force",
                next_step=f"use one of {', '.join(_FIELDS)}",
                key=name,
            )


def _check(setting: Field[Any], value: Any) -> None:
    kind = setting.metadata["kind"]
    if value is None and setting.default is not None and "None" not in str(setting.type):
        raise ConfigError(f"{setting.name} cannot be switched off", next_step=f"give {_EXAMPLES[kind]}")
    if value is None:
        return
    if not isinstance(value, _TYPES[kind]) or isinstance(value, bool):
        raise ConfigError(f"{setting.name} is {value!r}", next_step=f"give {_EXAMPLES[kind]}")
    if kind not in ("path", "sql"):
        _check_range(setting, value)


def _check_range(setting: Field[Any], value: Any) -> None:
    zero = timedelta() if setting.metadata["kind"] == "duration" else 0
    least, most = setting.metadata.get("least", zero), setting.metadata.get("most")
    if value < least or (most is not None and value > most) or (isinstance(value, float) and not math.isfinite(value)):
        upper = "" if most is None else f" and at most {most}"
        raise ConfigError(f"{setting.name} is {value}", next_step=f"give at least {least}{upper}", key=setting.name)


def _parse(setting: Field[Any], value: Any) -> Any:
    kind = setting.metadata["kind"]
    if kind in ("path", "sql") or value is None or isinstance(value, bool):
        return value
    if value == "off":
        return None
    units: Mapping[str, float] = {"duration": _SPANS, "bytes": _UNITS}.get(kind, {"": 1})
    if isinstance(value, str):
        value = _amount(setting, value, units)
    if not isinstance(value, int | float) or not math.isfinite(value):
        return value  # refused by the check of its type
    if kind == "duration":
        return timedelta(seconds=value)
    return int(value) if kind in ("bytes", "count") and value == int(value) else value


def _amount(setting: Field[Any], text: str, units: Mapping[str, float]) -> float:
    match = _AMOUNT.fullmatch(text.strip())
    if match is None or match[2].lower() not in units:
        raise ConfigError(
            f"{setting.name} is {text!r}", next_step=f"give {_EXAMPLES[setting.metadata['kind']]}", key=setting.name
        )
    return float(match[1]) * units[match[2].lower()]


# Below all that its checks need.
DEFAULTS = Limits()
