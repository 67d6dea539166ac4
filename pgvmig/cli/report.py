"""`pgvmig report`."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgvmig.cli import output
from pgvmig.errors import UsageError

if TYPE_CHECKING:
    from pgvmig.report.facts import Facts


@click.command("report")
@click.argument("target")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The file to write.")
@click.option("--no-text", is_flag=True, help="Read and show no text of a query or of a row; their keys stay.")
@click.option("--no-count", is_flag=True, help="Neither count rows nor run the gates, which read the table whole.")
@output.options
def command(target: str, html: Path, no_text: bool, no_count: bool, dsn: str | None, as_json: bool) -> None:
    """Write one page about TARGET: verdict and gates, timeline, backfill, quality, latency, what changed.

    One file that loads nothing and runs no script, light or dark as the reader's screen is. It shows what the database
    has kept, and the gates of the next switch as they are now; nothing is changed. It holds the beginnings of rows and
    queries, so give it to those who may read them, or use --no-text. Whatever the page says, the exit code is 0 when it
    was written; to stop a pipeline use `pgvmig cutover TARGET VERSION --check`. Needs `pip install 'pgvmig[report]'`.

    \b
    JSON: {"target", "html", "bytes", "at", "database", "versions": {"v1": "active", "v2": "ready"},
           "evaluation": {"verdict": "GO", "reason", "at", "old": "v1", "new": "v2", "pilot": false},
           "gates": {"version": "v2", "way_back": false, "passed": false, "problem": null,
                     "results": [{"gate", "passed", "found", "wanted", "next", "measured"}]}}
    `evaluation` is null without one, `gates` without a version to switch to; `passed` when the gates could not be run.
    """
    html = html.resolve()  # through links: what they lead to is replaced, not they
    _check(html)
    with output.needs("report"):
        from pgvmig.report import collect, page
    with output.connect(dsn) as conn:
        facts = collect.collect(conn, target, texts=not no_text, count=not no_count)
    size = _write(html, page.render(facts))
    if as_json:
        output.print_json(_summary(facts) | {"html": str(html), "bytes": size})
        return
    if facts.newest is not None:
        output.say(f"Evaluation of {facts.newest.new}: {facts.newest.verdict or 'no verdict'}")
    if facts.gates is not None and facts.gates.results:
        passed = len(facts.gates.results) - len(facts.gates.failures)
        output.say(f"Gates of {facts.gates.version}: {passed} of {len(facts.gates.results)} pass")
    output.say(f"Wrote {html} ({size / 1024:,.0f} kB). Next: open it in a browser")


def _summary(facts: Facts) -> dict[str, Any]:
    newest, gates = facts.newest, facts.gates
    return {
        "target": facts.target,
        "at": facts.at,
        "database": facts.database,
        "versions": {v.version: v.state for v in facts.versions},
        "evaluation": newest
        and {name: getattr(newest, name) for name in ("verdict", "reason", "at", "old", "new", "pilot")},
        "gates": gates
        and {
            "version": gates.version,
            "way_back": gates.way_back,
            "passed": None if gates.problem else not gates.failures,
            "problem": gates.problem,
            "results": gates.results,
        },
    }


def _check(html: Path) -> None:
    """Raise UsageError before anything is read when the file cannot be written."""
    folder = html.parent
    if html.exists() and not html.is_file():
        raise UsageError(f"{html} is no file that could be replaced", next_step="name a file with --html")
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}", next_step=f"mkdir -p {folder}")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"{folder} may not be written to", next_step="name another file with --html")


def _write(html: Path, text: str) -> int:
    """Write the page whole or not at all, whoever reads there meanwhile; return its size."""
    raw = text.encode()
    try:
        descriptor, name = tempfile.mkstemp(dir=html.parent, prefix=f".{html.name}.")
        with os.fdopen(descriptor, "wb") as file:
            file.write(raw)
        Path(name).chmod(0o666 & ~_umask())
        Path(name).replace(html)
    except OSError as error:
        raise UsageError(f"{html} cannot be written: {error.strerror}", next_step="name another file") from error
    return len(raw)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
