"""A peer's own virtual environment, made once and kept: its dependencies and pgvmig's never meet."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.stage import Stage

HOME = Path(__file__).resolve().parents[2] / ".venv-peers"


class PeerFailedError(Exception):
    """A peer's command ended with an error; the message is the end of what it said."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Where a peer is installed."""

    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    def run(self, *command: str | Path, environment: Mapping[str, str], cwd: Path | None = None) -> str:
        """Run one of its programs and return what it printed. Raises PeerFailedError."""
        program, *arguments = map(str, command)
        done = subprocess.run(
            [str(self.folder / "bin" / program), *arguments],
            env={**os.environ, **environment},
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise PeerFailedError(f"{' '.join(map(str, command))}: {(done.stderr or done.stdout)[-2000:]}")
        return done.stdout

    def version(self, package: str) -> str:
        """Return which version of a package is installed."""
        code = f"from importlib.metadata import version; print(version({package!r}))"
        return self.run("python", "-c", code, environment={}).strip()


def installed(stage: Stage, name: str, *requirements: str) -> Environment:
    """Return the peer's environment; made with pip when it is not there, or holds another set of requirements."""
    environment = Environment(HOME / name)
    stamp = environment.folder / "requirements.txt"
    wanted = "\n".join(requirements)
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        stage.say(f"installs {', '.join(requirements)} into {environment.folder.relative_to(HOME.parent)}")
        venv.create(environment.folder, clear=True, with_pip=True)
        pip = [str(environment.python), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        subprocess.run([*pip, *requirements], check=True, stdout=sys.stderr)
        stamp.write_text(wanted, encoding="utf-8")
    return environment
