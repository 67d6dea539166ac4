"""A misspelt command gets a guess, and every command starts without what it does not need."""

import subprocess
import sys

import pytest

from pgvmig.cli import cli, output


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("backfil", "Error: No such command 'backfil'. Did you mean backfill?"),
        ("cut-over", "Error: No such command 'cut-over'. Did you mean cutover?"),
        ("xyzzy", "Error: No such command 'xyzzy'."),
    ],
)
def test_a_misspelt_command(monkeypatch, capsys, typed, said):
    monkeypatch.setattr("sys.argv", ["pgvmig", typed])
    assert output.run(cli) == 2
    assert capsys.readouterr().err.splitlines()[-1] == said


def test_a_command_starts_without_alembic():
    """It takes longer to import than everything else together, and cron starts commands all day."""
    code = (
        "import sys; from pgvmig.cli import COMMANDS, cli; "
        "[cli.get_command(None, name) for name in COMMANDS]; "
        "print(sorted({'alembic', 'sqlalchemy', 'openai', 'numpy', 'scipy', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("first", ["pgvmig", "pgvmig.alembic_plugin", "pgvmig.alembic_plugin.toimpl", "alembic"])
def test_operations_are_there_whatever_is_imported_first(first):
    code = f"import {first}; from alembic import op; print(op.add_embedding.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "add_embedding"
