"""How figures, sessions and roles are written in what a signal says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

_KILO = 1024
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_]*")


def quoted(role: str) -> str:
    """Return the role as SQL takes it, in quotes where it needs them."""
    return role if _PLAIN_NAME.fullmatch(role) else '"' + role.replace('"', '""') + '"'


def literal(value: str) -> str:
    """Return the text as SQL's literal."""
    return "'" + value.replace("'", "''") + "'"


def span(lag: timedelta) -> str:
    """Return a time span in the unit that suits it."""
    seconds = lag.total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 2 * _MINUTE:
        return f"{seconds:.1f} s"
    if seconds < 2 * _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds / _HOUR:.1f} h" if seconds < 2 * _DAY else f"{seconds / _DAY:,.1f} days"


def size(number: int) -> str:
    """Return a number of bytes in the units of pg_size_pretty, and of PostgreSQL's settings."""
    amount = float(number)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < _KILO:
            return f"{number} bytes" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= _KILO
    return f"{amount:,.1f} TB"


def session(row: Mapping[str, Any]) -> str:
    """Return who a session is, from `pid`, `usename`, `application_name`; with `state` and `query` where given."""
    said = [row["usename"] or row.get("backend_type") or "unknown user"]
    if row.get("application_name"):
        said.append(f"application {row['application_name']}")
    if row.get("state"):
        said.append(row["state"])
    query = " ".join((row.get("query") or "").split())
    return f"session {row['pid']} ({', '.join(said)})" + (f' with "{query}"' if query else "")
