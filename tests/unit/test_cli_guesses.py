"""A misspelt command gets a guess."""

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
