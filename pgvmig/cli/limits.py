"""Options for pacing limits, made from the limits themselves: nothing about one is typed twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, dataclass
from typing import Any

import click

from pgvmig.errors import ConfigError
from pgvmig.pacing.configured import configured, written
from pgvmig.pacing.limits import Limits, parsed, settings

_METAVARS = {
    "duration": "DURATION",
    "bytes": "SIZE",
    "count": "NUMBER",
    "ratio": "NUMBER",
    "path": "PATH",
    "sql": "SQL",
}


@dataclass(frozen=True, slots=True)
class Given:
    """A limit that was given: None in it is not the absence of the option, it is `off`."""

    value: Any


class LimitType(click.ParamType[Given]):
    """A limit as people write it: 800ms, 64MB, 0.5, off."""

    name = "limit"

    def __init__(self, setting: Field[Any]) -> None:
        self._setting = setting

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Given:
        """Read the text."""
        if isinstance(value, Given):
            return value
        name = self._setting.name
        try:
            return Given(parsed({name: value}, live=False)[name])
        except ConfigError as error:
            self.fail(f"{error.found}; {error.next_step}", param, ctx)


def options(*, live: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add an option for every limit, with `live` for those that can be changed while a worker runs."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for setting in reversed([*_chosen(live=live)]):
            command = _option(setting)(command)
        return command

    return add


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the limits among a command's arguments, by name; what was not given is not in it."""
    names = {setting.name for setting in settings()}
    return {name: value.value for name, value in values.items() if name in names and value is not None}


def effective(values: Mapping[str, Any]) -> Limits:
    """Return the configured limits with what a command was given. Raises ConfigError."""
    return configured().limits.changed(**given(values))


def _chosen(*, live: bool) -> Iterator[Field[Any]]:
    return (setting for setting in settings() if setting.metadata["live"] or not live)


def _option(setting: Field[Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    text = setting.metadata["help"]
    return click.option(
        "--" + setting.name.replace("_", "-"),
        setting.name,
        type=LimitType(setting),
        metavar=_METAVARS[setting.metadata["kind"]],
        help=f"{text[0].upper()}{text[1:]}. [default: {written(setting, setting.default)}]".replace("`", ""),
    )
