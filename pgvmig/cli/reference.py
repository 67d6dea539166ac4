"""docs/cli.md, written from the commands themselves: `python -m pgvmig.cli.reference > docs/cli.md`."""

from __future__ import annotations

from collections.abc import Iterator

import click

from pgvmig import config
from pgvmig.cli import HELP_OPTIONS, WIDTH, cli

_HEAD = """# Command line

Written by `make docs` from the commands' own help; a test compares.

Every command has `--json`: one JSON object on standard output, its keys in the command's help. Times are ISO 8601, time
spans seconds. An error is `{"error": {"type", "found", "hazard", "next", "data"}}` with the exit code that fits it.

| exit | meaning |
|---|---|
| 0 | done; nothing left; gates pass; GO |
| 1 | error |
| 2 | usage |
| 3 | work left (time limit, SIGTERM, an operator's pause) |
| 4 | blocked: a gate failed, a signal is unknown or stops; NO-GO |
| 5 | INCONCLUSIVE: too few judged queries to tell |
"""


_PROVIDERS = """## Providers

A contract names a provider; `pgvmig.toml` in the current folder (or where `PGVMIG_CONFIG` says) has `[providers.NAME]`.
Without it: `PGVMIG_<NAME>_BASE_URL` and `PGVMIG_<NAME>_API_KEY`, and for `openai` its own `OPENAI_BASE_URL` and
`OPENAI_API_KEY`. Keys come from the environment only and are never printed, logged or stored.

| setting | what it is | default |
|---|---|---|"""


def render() -> str:
    """Return the reference as Markdown."""
    return "\n".join([_HEAD, *_sections(cli, "pgvmig"), _providers()])


def _providers() -> str:
    """Return the settings of a provider, from the code that reads them."""
    rows = [
        f"| `{setting.name}` | {setting.metadata['doc']} | {_default(setting.default)} |"
        for setting in config.documented_settings()
    ]
    return "\n".join([_PROVIDERS, *rows, ""])


def _default(value: object) -> str:
    return "-" if value is None else f"`{value}`"


def _sections(command: click.Command, path: str) -> Iterator[str]:
    context = click.Context(
        command, info_name=path, terminal_width=WIDTH, max_content_width=WIDTH, help_option_names=HELP_OPTIONS
    )
    yield f"## `{path}`\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None:
                yield from _sections(child, f"{path} {name}")


if __name__ == "__main__":
    click.echo(render(), nl=False)
