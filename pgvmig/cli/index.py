"""`pgvmig index`."""

from __future__ import annotations

import functools
import time
from typing import Any

import click
import psycopg
from psycopg.rows import dict_row

from pgvmig import config, indexing
from pgvmig import sql as files
from pgvmig.address import Address
from pgvmig.catalog import versions
from pgvmig.catalog.versions import Version
from pgvmig.cli import index_progress, output, switching
from pgvmig.errors import UsageError
from pgvmig.index_plan import METHODS, QUANTIZATIONS, IndexPlan
from pgvmig.pacing.building import require_calm_for
from pgvmig.runner import ConnectionRunner


@click.command("index")
@click.argument("target")
@click.argument("version")
@click.option("--method", type=click.Choice(METHODS), help="The access method. [default: as recorded, else hnsw]")
@click.option(
    "--option",
    "given",
    metavar="NAME=NUMBER",
    multiple=True,
    help="An option of the method: m, ef_construction; lists. May be repeated.",
)
@click.option(
    "--quantize",
    type=click.Choice(["none", *QUANTIZATIONS]),
    help="Index smaller vectors: halfvec, or binary, whose searches rank again by the vectors themselves.",
)
@click.option("--early", is_flag=True, help="Build it though more than a tenth of the rows has no vector yet.")
@click.option("--now", is_flag=True, help="Do not wait until the pacing signals are well.")
@output.options
def command(
    target: str,
    version: str,
    method: str | None,
    given: tuple[str, ...],
    quantize: str | None,
    early: bool,
    now: bool,
    dsn: str | None,
    as_json: bool,
) -> None:
    """Build the index of VERSION of TARGET: the one that op.index_embedding(..., after_backfill=True) recorded.

    Options change what is recorded; without either it is HNSW with pgvector's defaults. CONCURRENTLY, so that reads and
    writes go on. Another definition than the present index's is built beside it, and the old one is dropped when the
    new one is valid: there always is one. Interrupted anywhere, run it again.

    On a table of 100 MB or more it begins when every pacing signal is OK (`pgvmig signals`); a build cannot be paced.
    IVFFlat's lists, where not given, follow the number of rows. See docs/indexes.md.

    Exit codes: 0 the index is there, 4 the backfill is not done, a signal says no, or somebody is building it.

    \b
    JSON: {"changed": true, "index": "documents_embedding_v2_hnsw", "method": "hnsw", "quantize": null,
           "options": {"m": 16}, "bytes": 8192, "seconds": 0.4, "said": null}
    """
    with output.connect(dsn) as conn:
        found = versions.find(conn, target, version)
        run, where = ConnectionRunner(conn, "cli"), switching.address(found)
        plan = _merged(indexing.planned(run, where), method, _numbers(given), quantize)
        said: list[str] = []
        began = time.monotonic()
        with index_progress.progress(config.dsn(dsn), conn.info.backend_pid, shown=not as_json):
            changed = _build(run, where, plan, early=early, dsn=None if now else config.dsn(dsn), said=said)
        outcome = _outcome(conn, found, changed) | {"seconds": time.monotonic() - began, "said": " ".join(said) or None}
    if as_json:
        output.print_json(outcome)
    else:
        _show(found, outcome)


def _build(
    run: ConnectionRunner, where: Address, plan: IndexPlan, *, early: bool, dsn: str | None, said: list[str]
) -> bool:
    anyway = f"pgvmig index {where.label} --now builds it now"
    calm = None if dsn is None else functools.partial(require_calm_for, run, where, dsn=dsn, anyway=anyway)
    return indexing.build(
        run,
        where,
        method=plan.method,
        options=plan.options,
        quantize=plan.quantize,
        early=early,
        calm=calm,
        say=said.append,
    )


def _merged(recorded: IndexPlan | None, method: str | None, options: dict[str, int], quantize: str | None) -> IndexPlan:
    """Return what is recorded with what was said; options of another method are forgotten."""
    before = recorded or IndexPlan()
    chosen = method or before.method
    kept = before.options if chosen == before.method else {}
    form = before.quantize if quantize is None else (None if quantize == "none" else quantize)
    return IndexPlan(chosen, {**kept, **options}, form)


def _numbers(given: tuple[str, ...]) -> dict[str, int]:
    options = {}
    for text in given:
        name, _, value = text.partition("=")
        if not value.isdecimal():
            raise UsageError(f"--option {text} is not NAME=NUMBER", next_step="write --option m=32")
        options[name] = int(value)
    return options


def _outcome(conn: psycopg.Connection[Any], version: Version, changed: bool) -> dict[str, Any]:
    with conn.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(files.query("indexing", "built"), {"version_id": version.version_id}).fetchone()
    nothing = dict.fromkeys(("index", "method", "quantize", "options", "bytes"))
    return {"changed": changed, **(row or nothing)}


def _show(version: Version, outcome: dict[str, Any]) -> None:
    if outcome["said"]:
        output.say(outcome["said"])
    elif not outcome["changed"]:
        output.say(f"{version.name} has its index, {outcome['index']}: nothing to do.")
    else:
        output.say(
            f"{version.name}: {outcome['index']} is built, {outcome['bytes'] / 2**20:,.1f} MB in "
            f"{index_progress.span(outcome['seconds'])}. Next: pgvmig verify {version.name}"
        )
