"""The command line: one thin file per command, found and imported when it is called.

Commands parse, call the library, print. What they print as `--json` is documented in docs/cli.md.
"""

from __future__ import annotations

import difflib
import sys
from importlib import import_module

import click

from pgvmig import __version__

# command -> what it is for; the module of the same name holds the command
COMMANDS = {
    "init": "Install or upgrade the control schema",
    "scaffold": "Give an Alembic project what it needs; write cutovers and retirements on a line of their own",
    "adopt": "Take the vectors that a table already has as its first version",
    "plan": "Which layout to choose for a version, and what its backfill costs",
    "status": "Versions, their coverage, the workers and what to do next",
    "backfill": "Embed what is missing or stale",
    "index": "Build a version's index after its backfill, or change it",
    "signals": "What the pacing signals say now",
    "pause": "Let workers write nothing, at once",
    "resume": "Take a pause back",
    "throttle": "Change pacing limits while workers run, or show them",
    "failed": "Rows that the provider refused: list, retry, accept",
    "standby": "Declare the standbys whose lag the worker respects",
    "roles": "Group roles for services, workers, operators and migrations: create, show, drop",
    "route": "Let a version serve a share of the keys first, or show who serves them",
    "trigger": "At which figures from production to go back: add, list, remove",
    "verify": "Prove that a version is ready: run every gate, measure what takes minutes",
    "evaluate": "Is the new version as good as the old one? Judged queries, and a verdict",
    "tune": "How a version is searched: ef_search and the like, switched with it",
    "report": "One page about a migration: verdict, gates, plots, the queries that changed most",
    "cutover": "Make a version the active one",
    "watch": "Check the triggers after a switch, and go back when told to",
    "rollback": "Go back to the version that was active before",
    "smoke": "Searches that must work whatever is active: add, list, remove, run",
    "retire": "Drop a version's vectors for good",
    "demo": "One whole migration on an embedded PostgreSQL, under live traffic",
}

HELP_OPTIONS = ["-h", "--help"]
WIDTH = 100


class LazyGroup(click.Group):
    """Imports a command's module when the command is called: `--help` stays fast and extras stay optional."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names in the order of a migration."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        """Return the command, imported now."""
        if name not in COMMANDS:
            return None
        command: click.Command = import_module(f"pgvmig.cli.{name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command, and for one that is not there a guess at what was meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            guesses = difflib.get_close_matches(args[0], COMMANDS, n=1)
            if not guesses or "Did you mean" in error.message:
                raise
            raise click.UsageError(f"{error.message} Did you mean {guesses[0]}?", error.ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands from COMMANDS, importing none."""
        with formatter.section("Commands, in the order of a migration"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": HELP_OPTIONS, "max_content_width": WIDTH})
@click.version_option(__version__, prog_name="pgvmig")
def cli() -> None:
    """Change embedding models in PostgreSQL/pgvector as a schema migration.

    \b
    A migration is made of Alembic revisions and of commands between them:
      alembic revision --autogenerate       writes op.add_embedding(...)
      alembic upgrade main@head             and nothing waits
      pgvmig backfill documents v2          until it exits 0
      pgvmig index documents v2
      pgvmig verify documents v2            until it exits 0
      pgvmig scaffold cutover documents v2  writes op.cut_over_embedding(...)
      alembic upgrade embeddings@head
    The way back is alembic downgrade embeddings@-1, or pgvmig rollback documents.

    Once, before the first: `pgvmig scaffold` in the folder of alembic.ini, an Embedding(...) beside the table in your
    models, and where the table has vectors already, `pgvmig adopt`.

    Exit codes: 0 done or GO, 1 error, 2 usage, 3 work left (time limit, signal, pause), 4 blocked (a
    gate or a pacing signal says no; NO-GO), 5 INCONCLUSIVE. The database comes from --dsn, else
    PGVMIG_DSN, else DATABASE_URL.
    """


def main() -> None:
    """Entry point of the `pgvmig` script."""
    from pgvmig.cli.output import run

    sys.exit(run(cli))
