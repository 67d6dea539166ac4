"""What every command shares: options, exit codes, errors, tables and JSON."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import date, timedelta
from typing import Any

import click
import psycopg
from rich.console import Console
from rich.table import Table

from pgvmig import config
from pgvmig.catalog import connection, schema
from pgvmig.catalog.connection import translate
from pgvmig.errors import ConfigError, PgvmigError
from pgvmig.runner import ConnectionRunner

WORK_LEFT = 3
INTERRUPTED = 130

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d)?")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, None: 1}


class Duration(click.ParamType[timedelta]):
    """A time span such as 90, 90s, 800ms, 5m, 1h or 30d, as a timedelta."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Read the text."""
        if isinstance(value, timedelta):
            return value
        match = _DURATION.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"{value!r} is not a time span; write 90s, 800ms, 5m, 1h or 30d", param, ctx)
        return timedelta(seconds=float(match[1]) * _SECONDS[match[2]])


DURATION = Duration()


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --dsn and --json."""
    command = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, see docs/cli.md.")(command)
    return click.option("--dsn", metavar="DSN", help="The database. [default: PGVMIG_DSN, else DATABASE_URL]")(command)


def connect(dsn: str | None, *, check_schema: bool = True) -> psycopg.Connection[Any]:
    """Open the database that the user means. Raises when its control schema is not this toolkit's."""
    conn = connection.connect(config.dsn(dsn), application_name="pgvmig cli")
    if check_schema:
        schema.require(ConnectionRunner(conn))
    return conn


def run(command: click.Command) -> int:
    """Run the command line and return its exit code; every error ends here, as text or as JSON."""
    try:
        outcome = command.main(standalone_mode=False, prog_name="pgvmig")
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.Abort:
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except PgvmigError as error:
        return show_error(error)
    except psycopg.Error as error:
        return show_error(translate(error))
    return outcome if isinstance(outcome, int) else 0


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Say which extra to install when the block's imports find that it is missing."""
    try:
        yield
    except ImportError as error:
        raise ConfigError(
            f"{error.name or error} is not installed",
            hazard="The core install reviews, applies and switches; what embeds needs more",
            next_step=f"pip install 'pgvmig[{extra}]'",
        ) from error


def show_error(error: PgvmigError) -> int:
    """Print the error, for people on stderr or for machines on stdout, and return its exit code."""
    if "--json" in sys.argv[1:]:
        print_json(
            {
                "error": {
                    "type": type(error).__name__,
                    "found": error.found,
                    "hazard": error.hazard,
                    "next": error.next_step,
                    "data": error.data,
                }
            }
        )
    else:
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        console.print(f"Error: {error.found}", style="bold red", markup=False)
        if error.hazard:
            console.print(f"Why:   {error.hazard}", markup=False)
        if error.next_step:
            console.print(f"Next:  {error.next_step}", style="bold", markup=False)
    return error.exit_code


def print_json(value: Any) -> None:
    """Print one JSON object: times as ISO 8601, time spans in seconds, bytes in hexadecimal."""
    click.echo(json.dumps(value, default=_plain, ensure_ascii=False))


def say(text: str) -> None:
    """Print a line for people."""
    Console(highlight=False, soft_wrap=True).print(text, markup=False)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table; None is shown as a dash, numbers stand to the right with thousands separated."""
    rows = [list(row) for row in rows]
    grid = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False)
    for i, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[i], int | float | type(None)) for row in rows)
        grid.add_column(column, justify="right" if numeric else "left", no_wrap=not numeric and i == 0, overflow="fold")
    for row in rows:
        grid.add_row(*(_cell(value) for value in row))
    Console(highlight=False, width=None if sys.stdout.isatty() else 160).print(grid)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value).replace("[", r"\[")


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return value.hex()
    return str(value)
