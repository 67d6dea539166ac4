"""The built wheel in a clean environment: what a user installs, not what the checkout happens to have."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.xdist_group("wheel")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel with its core dependencies, and psycopg's own libpq, into an environment of its own."""
    home = tmp_path_factory.mktemp("venv")
    venv.create(home, with_pip=True)
    install = [home / "bin" / "python", "-m", "pip", "install", "--quiet", f"{wheel}[binary]"]
    subprocess.run(install, check=True, capture_output=True)
    return home / "bin"


def run(clean: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command far away from the checkout."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PGVMIG"))}
    return subprocess.run(
        [clean / "pgvmig", *arguments], env=kept | environment, cwd="/", capture_output=True, text=True, check=False
    )


def test_init_finds_sql(clean: Path, database) -> None:
    done = run(clean, "init", "--json", PGVMIG_DSN=database.dsn)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"schema_version": 1, "changed": True}
    assert json.loads(run(clean, "init", "--json", PGVMIG_DSN=database.dsn).stdout)["changed"] is False
    assert run(clean, "status", PGVMIG_DSN=database.dsn).returncode == 0


def test_the_plugin_is_registered(clean: Path) -> None:
    code = "from alembic import op; print(op.add_embedding.__name__)"
    done = subprocess.run([clean / "python", "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.strip() == "add_embedding"


def test_scaffold_and_the_demos_project(clean: Path, tmp_path: Path) -> None:
    """What is copied from the package, and what needs no more than the core."""
    init = [clean / "alembic", "init", "migrations"]
    subprocess.run(init, cwd=tmp_path, capture_output=True, check=True)
    done = run(clean, "scaffold", "--config", str(tmp_path / "alembic.ini"), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["deploy"] == "alembic upgrade main@head"
    code = (
        "import sys; from pathlib import Path; from pgvmig.demo.project import Project; Project(Path(sys.argv[1]), '')"
    )
    demo = tmp_path / "demo"
    subprocess.run([clean / "python", "-c", code, str(demo)], capture_output=True, check=True, cwd="/")
    assert 'model="wordllama"' in (demo / "models.py").read_text(encoding="utf-8")
    assert len(list((demo / "versions").glob("*.py"))) == 4


def test_what_is_missing_says_how_to_get_it(clean: Path, database) -> None:
    run(clean, "init", PGVMIG_DSN=database.dsn)
    for command, extra in (("backfill", "pgvmig[worker]"), ("demo", "pgvmig[demo]")):
        done = run(clean, command, PGVMIG_DSN=database.dsn)
        assert done.returncode == 2
        assert extra in done.stderr
        assert "Traceback" not in done.stderr
