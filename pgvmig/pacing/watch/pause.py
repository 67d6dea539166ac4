"""An operator's pause: rows in the database, and a file for when the database is out of reach."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pgvmig.pacing.definition import Look, Signal, unset
from pgvmig.pacing.limits import Limits
from pgvmig.pacing.signals import PAUSE, Reading, Subject, ok, stop
from pgvmig.pacing.snapshot import Rows

FILE = "pause file"


def _judge(look: Look) -> tuple[Reading, ...]:
    meant = [row for row in look.rows if _meant(row, look.subject)]
    version = None if look.subject is None else look.subject.version
    paused = [row for row in meant if row["version"] in {None, version}]
    if not paused and version is None and meant:
        # what a rollback has left, as a rule: the other versions are written
        return (ok(PAUSE, f"paused is only {', '.join(map(_words, meant))}"),)
    return tuple(map(_paused, paused)) or (ok(PAUSE, "nobody has paused it"),)


def _meant(row: Mapping[str, Any], subject: Subject | None) -> bool:
    if row["relation"] is None or subject is None:
        return True
    return bool(row["relation"] == subject.relation) and row["slot"] in {None, subject.slot or row["slot"]}


def _paused(row: Mapping[str, Any]) -> Reading:
    because = f": {row['reason']}" if row["reason"] else ""
    what = _words(row)
    resume = f"pgvmig resume {what}".rstrip()
    return stop(PAUSE, f"{what or 'everything'} was paused by {row['paused_by']}{because}", resume)


def _words(row: Mapping[str, Any]) -> str:
    return " ".join(word for word in (row["target"], row["version"]) if word)


SIGNAL = Signal(
    name=PAUSE,
    meaning="nobody has paused this version, its table, or everything, with `pgvmig pause`",
    incident="something else is on fire, and nobody wants to find and kill workers on five machines first",
    judge=_judge,
    query="pause",
    grant="SELECT ON pgvmig.pause",
)


def _look_for_file(limits: Limits) -> Rows:
    path = Path(limits.pause_file or "")
    try:
        path.lstat()
    except FileNotFoundError:
        # A directory that is not there, or that we cannot search, hides the file as well.
        os.stat(path.absolute().parent / ".")  # noqa: PTH116  # pathlib drops the final dot, which asks to enter
        return [{"path": str(path), "exists": False}]
    return [{"path": str(path), "exists": True}]


def _judge_file(look: Look) -> tuple[Reading, ...]:
    (found,) = look.rows
    if found["exists"]:
        return (stop(FILE, f"paused: the file {found['path']} exists", f"remove {found['path']} when it may go on"),)
    return (ok(FILE, f"there is no file {found['path']}"),)


FILE_SIGNAL = Signal(
    name=FILE,
    kind=PAUSE,
    meaning="the file `pause_file` does not exist",
    incident="the database takes no more connections, so nobody can pause in it the worker that is to blame",
    judge=_judge_file,
    limits=("pause_file",),
    default="off",
    off=unset("pause_file"),
    probe=_look_for_file,
)
