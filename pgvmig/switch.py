"""Cut over and roll back. The database does it in one transaction (sql/functions/60_switch.sql); this asks it to.

Must not know about Alembic or the command line: both call it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from psycopg import sql

from pgvmig import sql as files
from pgvmig.address import Address
from pgvmig.catalog import roles
from pgvmig.pacing import quiet
from pgvmig.pacing.configured import configured
from pgvmig.pacing.signals import Verdict
from pgvmig.runner import Row, Runner, decoded, one
from pgvmig.terms import Terms

# What clients must expect of a switch between vector and halfvec.
RETYPED = (
    "under another OID, so a prepared statement that returns the vector fails (cached plan must not change result "
    "type) until it is prepared again, and who reads the vector in binary gets the other type"
)

Tell = Callable[[str], None]


def cut_over(
    run: Runner,
    where: Address,
    terms: Terms | None = None,
    *,
    beside: quiet.Beside | None = None,
    tell: Tell | None = None,
) -> dict[str, Any]:
    """Make the version the active one. Returns what the database measured; `changed` is false when it was active.

    `beside` is how to reach the server once more: standbys and long readers are asked first, without it they are not.
    `tell` hears beforehand what clients must expect.
    Raises GateError, SignalError, LockNotAvailableError, IllegalTransitionError; then nothing has changed.
    """
    run.note(
        f"pgvmig: cut {where.label} over. Checks the gates, then in this transaction makes the current view\n"
        f"the definition of the version's view (CREATE OR REPLACE VIEW) and {where.version} the active version.\n"
        "From vector to halfvec, or back, the view and those over it are made anew with all grants,\n"
        f"{RETYPED}."
    )
    return _switch(run, "cut_over", where, terms or Terms(), beside=beside, tell=tell)


def roll_back(
    run: Runner,
    where: Address,
    terms: Terms | None = None,
    *,
    beside: quiet.Beside | None = None,
    tell: Tell | None = None,
) -> dict[str, Any]:
    """Leave the version for the one that was active before it, and pause its backfill.

    Takes, returns and raises what `cut_over` does.
    """
    run.note(
        f"pgvmig: roll back from {where.label} to the version that was active before, by the same steps, and pause\n"
        f"the backfill of {where.version}; another version is kept fresh as before."
    )
    return _switch(run, "roll_back", where, terms or Terms(), beside=beside, tell=tell)


def expected(run: Runner, where: Address, *, way_back: bool = False) -> Row:
    """Return what a switch to the version, or with `way_back` from it, would find and do.

    `changes`, `has_rows`, what `quiet.Locked` holds, and `retyping`: None, or {view, from, to, dependents, obstacles}.
    """
    found = run.run(
        files.query(
            "switch",
            "expected",
            way_back=sql.Literal(way_back),
            **where.literals(),
        )
    )
    if not found:  # the verb says it better
        return {"changes": False, "has_rows": False, "retyping": None}
    return found[0] | {"retyping": decoded(found[0]["retyping"])}


def warning(retyping: dict[str, Any] | None) -> str | None:
    """Return what clients must expect of a switch, None when they notice nothing."""
    if retyping is None:
        return None
    views = ", ".join([retyping["view"], *(retyping["dependents"] or [])])
    return (
        f"The vector changes from {retyping['from']} to {retyping['to']}: {views} will be made anew, with the same "
        f"owner, grants, comments, options and triggers, but {RETYPED}."
    )


def asked(run: Runner, facts: Row, beside: quiet.Beside, terms: Terms) -> Verdict | None:
    """Return what standbys and long readers say of a switch now, None where there is nothing to lock for long."""
    if not (facts["changes"] and facts["has_rows"]):
        return None
    return quiet.check(run, beside, _locked(facts), configured().limits, terms.max_reader_age)


def _switch(
    run: Runner, verb: str, where: Address, terms: Terms, *, beside: quiet.Beside | None, tell: Tell | None
) -> dict[str, Any]:
    if not run.offline:
        _before(run, expected(run, where, way_back=verb == "roll_back"), terms, beside, tell)
    function = roles.function(run, verb)
    with run.transaction():
        statement = files.query("switch", verb, function=function, **where.literals(), **terms.literals())
        return decoded(one(run.run(statement))) or {}


def _before(run: Runner, facts: Row, terms: Terms, beside: quiet.Beside | None, tell: Tell | None) -> None:
    said = warning(facts["retyping"]) if facts["changes"] else None
    if said and tell is not None:
        tell(said)
    if beside is None or quiet.GATE in terms.skip or not (facts["changes"] and facts["has_rows"]):
        return
    quiet.require(run, beside, _locked(facts), configured().limits, terms.max_reader_age)


def _locked(facts: Row) -> quiet.Locked:
    return quiet.Locked(**{name: facts[name] for name in ("relation", "slot", "view", "relations", "database")})
