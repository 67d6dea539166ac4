"""`pgvmig throttle`."""

from __future__ import annotations

from dataclasses import Field
from typing import Any

import click

from pgvmig.catalog import control
from pgvmig.catalog.control import Throttle
from pgvmig.cli import limits, output
from pgvmig.errors import ConfigError
from pgvmig.pacing.configured import Configured, configured, written
from pgvmig.pacing.limits import DEFAULTS, parsed, settings, to_json


@click.command("throttle")
@click.argument("target")
@limits.options(live=True)
@click.option("--reset", is_flag=True, help="Forget what was changed for TARGET before; other options count after it.")
@output.options
def command(target: str, reset: bool, dsn: str | None, as_json: bool, **values: Any) -> None:
    """Change limits of TARGET while workers run, or without options show which hold and who changed them.

    Workers take a change over with their next look at the signals, within a second. It wins over their command line,
    over pgvmig.toml and over the defaults, also for workers that start later, until `--reset`. What names a file or
    holds SQL (--pause-file, --disk-path, --custom-sql) is not changed here, only where a worker is started.

    \b
    JSON: {"target": "documents", "changed_at": "..." or null, "changed_by": "dba" or null,
           "limits": {"max_lag": {"value": 0.8, "default": 1.5, "from": "throttle"}, ...},
           "workers": [{"host", "pid", "version", "limits": {...}}]}; from: throttle, default, or the file
           or variable; limits of a worker: what it was started with, where that is not the default
    """
    with output.connect(dsn) as conn:
        what = control.scope(conn, target)
        before = None if reset else control.throttle_of(conn, what)
        given = limits.given(values)
        _check(before, given)
        found = control.throttle(conn, what, to_json(given), reset=reset)
        workers = control.workers(conn, what)
    shown = _rows(found, configured())
    if as_json:
        _show_json(what.label, found, shown, workers)
    else:
        _show(what.label, found, shown, workers)


def _check(before: Throttle | None, given: dict[str, Any]) -> None:
    """Refuse what does not go together with what is in the row already. Raises ConfigError."""
    try:
        kept = {} if before is None else parsed(before.settings, live=True)
    except ConfigError:
        raise ConfigError(
            "what was changed before is not understood by this release",
            hazard="Workers of this release write nothing while it stands",
            next_step="add --reset",
        ) from None
    DEFAULTS.changed(**kept | given)


def _rows(found: Throttle | None, base: Configured) -> dict[str, tuple[Field[Any], Any, str]]:
    """Return by name each limit, its value and where it comes from."""
    changed = {} if found is None else parsed(found.settings, live=True)
    rows = {}
    for setting in settings():
        name = setting.name
        if name in changed:
            rows[name] = (setting, changed[name], "throttle")
        else:
            rows[name] = (setting, getattr(base.limits, name), base.sources.get(name, "default"))
    return rows


def _show_json(
    label: str | None,
    found: Throttle | None,
    rows: dict[str, tuple[Field[Any], Any, str]],
    workers: list[dict[str, Any]],
) -> None:
    plain = {
        name: {"value": value, "default": setting.default, "from": source}
        for name, (setting, value, source) in rows.items()
    }
    output.print_json(
        {
            "target": label,
            "changed_at": found and found.changed_at,
            "changed_by": found and found.changed_by,
            "limits": plain,
            "workers": workers,
        }
    )


def _show(
    label: str | None,
    found: Throttle | None,
    rows: dict[str, tuple[Field[Any], Any, str]],
    workers: list[dict[str, Any]],
) -> None:
    lines = [
        (name, written(setting, value), written(setting, setting.default), source)
        for name, (setting, value, source) in rows.items()
    ]
    output.table(f"Limits of {label}", ("limit", "now", "default", "from"), lines)
    if found is not None:
        output.say(
            f"throttle: changed by {found.changed_by}, {found.changed_at:%Y-%m-%d %H:%M}. "
            f"Next, to forget it: pgvmig throttle {label} --reset"
        )
    for worker in workers:
        own = ", ".join(f"{name} {value}" for name, value in parsed_texts(worker["limits"]).items())
        if own:
            output.say(f"Worker {worker['host']}:{worker['pid']} ({worker['version']}) was started with {own}")


def parsed_texts(stored: dict[str, Any]) -> dict[str, str]:
    """Return limits as they are stored in JSON, written for people."""
    by_name = {setting.name: setting for setting in settings()}
    known = {name: value for name, value in stored.items() if name in by_name}
    return {name: written(by_name[name], value) for name, value in parsed(known, live=False).items()}
