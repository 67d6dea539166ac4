"""Limits as configured, before a command's options and the database change them; and how limits are written."""

from __future__ import annotations

from dataclasses import Field, dataclass, field
from datetime import timedelta
from typing import Any

from pgvmig import config
from pgvmig.errors import ConfigError
from pgvmig.pacing.limits import DEFAULTS, Limits, parsed

_SIZES = (("TB", 1024**4), ("GB", 1024**3), ("MB", 1024**2), ("kB", 1024))


@dataclass(frozen=True, slots=True)
class Configured:
    """Limits, and by name where those come from that are not the defaults."""

    limits: Limits = DEFAULTS
    sources: dict[str, str] = field(default_factory=dict)


def configured() -> Configured:
    """Return the defaults with what pgvmig.toml and the environment say. Raises ConfigError, which names the place."""
    found: dict[str, Any] = {}
    sources = {}
    for name, (source, value) in config.pacing().items():
        try:
            found |= parsed({name: value}, live=False)
        except ConfigError as error:
            raise ConfigError(
                f"{source}: {error.found}", hazard=error.hazard, next_step=error.next_step, **error.data
            ) from error
        sources[name] = source
    return Configured(DEFAULTS.changed(**found), sources)


def written(setting: Field[Any], value: Any) -> str:
    """Return a limit's value as options and pgvmig.toml take it: `1.5s`, `64MB`, `off`."""
    if value is None:
        return "off"
    if isinstance(value, timedelta):
        return _duration(value)
    if setting.metadata["kind"] == "bytes":
        return _size(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _duration(value: timedelta) -> str:
    seconds = value.total_seconds()
    if 0 < seconds < 1:
        return f"{seconds * 1000:g}ms"
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds and seconds % length == 0:
            return f"{seconds / length:g}{unit}"
    return f"{seconds:g}s"


def _size(value: int) -> str:
    for unit, length in _SIZES:
        if value and value % length == 0:
            return f"{value // length}{unit}"
    return str(value)
