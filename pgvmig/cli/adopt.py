"""`pgvmig adopt`."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import psycopg

from pgvmig.address import Address
from pgvmig.adoptable import Check
from pgvmig.adopting import presets, revision, subject
from pgvmig.adopting.adopt import Note, look, notes, take
from pgvmig.adopting.looks import Options
from pgvmig.cli import output
from pgvmig.cli.progress import bars
from pgvmig.contract import METRICS, TOO_LONG, VECTOR_TYPES, Contract
from pgvmig.errors import ConflictError, GateError, UsageError
from pgvmig.runner import ConnectionRunner

SKIPPABLE = ("identity", "index", "lengths")
_CONTRACT = (
    ("--provider", {"help": "A provider of pgvmig.toml or the environment.  [default: openai]"}),
    ("--model", {"help": "As its provider calls it."}),
    ("--model-version", {"help": "Its version or release date; `latest` is refused."}),
    ("--dimensions", {"type": click.IntRange(1), "help": "Components of a vector.  [default: the column's]"}),
    ("--input", {"metavar": "SQL", "help": "The text that was embedded: an immutable SQL expression over a row."}),
    ("--metric", {"type": click.Choice(METRICS), "help": "What searches rank by.  [default: cosine]"}),
    ("--vector-type", {"type": click.Choice(VECTOR_TYPES), "help": "[default: the column's]"}),
    ("--document-prefix", {"help": "What is put before a text; the space after it counts."}),
    ("--query-prefix", {"help": "What is put before a search."}),
    ("--max-input", {"type": click.IntRange(1), "help": "Characters that are sent at most."}),
    ("--too-long", {"type": click.Choice(TOO_LONG), "help": "What becomes of longer texts.  [default: error]"}),
    ("--preprocessing", {"help": "A label of your own."}),
    ("--chunking", {"help": "A label of your own."}),
)


def _contract_options(command: Any) -> Any:
    for name, given in reversed(_CONTRACT):
        command = click.option(name, **given)(command)
    return command


@click.command("adopt")
@click.argument("target", required=False)
@click.option("--version", "version", default="v1", show_default=True, help="What the vectors shall be called.")
@click.option("--column", help="The column that holds them.  [default: the slot's name]")
@click.option("--preset", type=click.Choice(list(presets.PRESETS)), help="A table that this library made.")
@click.option("--contract", "file", type=click.Path(exists=True, dir_okay=False), help="Its keys, as TOML or JSON.")
@_contract_options
@click.option("--normalized/--not-normalized", default=None, help="Whether vectors have unit length.  [default: yes]")
@click.option(
    "--writer",
    type=click.Choice(["application", "worker"]),
    default="application",
    show_default=True,
    help="Who writes these vectors from now on.",
)
@click.option(
    "--sample", type=click.IntRange(1, 10_000), default=200, show_default=True, help="Rows that are embedded again."
)
@click.option("--by", metavar="COLUMN", help="Sample every value of this column: tenants, sources, collections.")
@click.option(
    "--min-cosine",
    type=click.FloatRange(0, 1),
    default=0.99,
    show_default=True,
    help="How like the stored vector the one made again must be.",
)
@click.option("--check", "only_look", is_flag=True, help="Only look; keep what was found for op.adopt_embedding().")
@click.option("--print-revision", is_flag=True, help="Only look, and print the revision that adopts.")
@click.option("--skip", type=click.Choice(SKIPPABLE), multiple=True, help="Adopt though this check fails.")
@click.option("--skip-identity", is_flag=True, help="The same as --skip identity; the provider is not asked.")
@click.option("--reason", help="Why; kept with the event. Needed with --skip.")
@click.option("--published", is_flag=True, help="Subscribers of the table have the three columns that are added.")
@output.options
def command(
    target: str | None,
    version: str,
    column: str | None,
    preset: str | None,
    file: str | None,
    writer: str,
    sample: int,
    by: str | None,
    min_cosine: float,
    only_look: bool,
    print_revision: bool,
    skip: tuple[str, ...],
    skip_identity: bool,
    reason: str | None,
    published: bool,
    dsn: str | None,
    as_json: bool,
    **contract: Any,
) -> int:
    """Take the vectors that a column of TARGET already has as a version; no row is rewritten.

    \b
    pgvmig adopt documents.embedding --version v1 \\
        --model text-embedding-3-small --model-version 2024-01-25 \\
        --dimensions 1536 --input "coalesce(title, '') || ' ' || body"

    Four checks come first; one that fails keeps the column from being adopted:

    \b
    dimensions  of every vector, where the column's type does not say it
    index       ranks by the contract's metric
    lengths     of a sample: 1 where the contract says normalized, and never zero
    identity    a sample is embedded again and compared: finds two models in one
                column, or another than is said

    What they found is kept. op.adopt_embedding() in a revision asks for it, because no revision calls a provider: there
    use --check or --print-revision. A table that another library made is named with --preset: it knows the text, the
    columns, and where rows of different models may meet. docs/adopt.md goes through LangChain, LlamaIndex and pgai.

    Exit codes: 0 adopted, or every check passes; 2 the column or the contract cannot be; 4 a check failed.

    \b
    JSON: {"target", "version", "column", "adopted": true, "passed": true, "revision": null,
           "checks": [{"check", "passed", "skipped", "found", "wanted", "next", "measured"}],
           "notes": [{"found", "hazard", "next"}]}
    """
    skipped = tuple(dict.fromkeys([*skip, *(["identity"] * skip_identity)]))
    if skipped and not reason:
        raise UsageError(
            f"check {', '.join(skipped)} is to be skipped and no reason is given",
            hazard="Whoever finds vectors of another model later will ask why nobody looked",
            next_step="add --reason '...'",
        )
    with output.connect(dsn) as conn, output.needs("worker"):
        where, column = subject.locate(
            ConnectionRunner(conn),
            presets.table(preset, target),
            version,
            column or (presets.PRESETS[preset].column if preset else None),
        )
        found = presets.find(conn, preset, where, column) if preset else presets.Found()
        known = presets.PRESETS[preset] if preset else None
        chosen = {"input": known.input} | dict(found.contract) if known else {}
        agreed = _contract(conn, where, column, chosen, file, contract)
        about = subject.examine(conn, where, column, agreed, by or (known.by if known else None))
        if about is None:
            raise ConflictError(
                f"{where.label} is adopted already, under this contract", next_step=f"pgvmig status {where.table.name}"
            )
        options = Options(sample=sample, min_cosine=min_cosine, skip=skipped)
        with bars(shown=not as_json) as report:
            checks = look(about, options, reason, report=report, called=found.called)
        passed = not any(check.blocks for check in checks)
        adopting = passed and not (only_look or print_revision)
        told = notes(about, checks, writer)
        if adopting:
            take(about, writer, prepared=published)
    text = revision.render(where, column, agreed, about.facts, writer) if print_revision and passed else None
    _tell(about, checks, told, adopted=adopting, revision_text=text, as_json=as_json)
    return 0 if passed else GateError.exit_code


def _contract(
    conn: psycopg.Connection[Any],
    where: Address,
    column: str,
    preset: Mapping[str, Any],
    file: str | None,
    given: Mapping[str, Any],
) -> Contract:
    """Return the contract: what the column is, the preset, the file and the options say, each over the one before."""
    said = {name: value for name, value in given.items() if value is not None}
    return Contract.of({**subject.of_the_column(conn, where, column), **preset, **_read(file), **said})


def _read(file: str | None) -> dict[str, Any]:
    if file is None:
        return {}
    text = Path(file).read_text(encoding="utf-8")
    try:
        read = json.loads(text) if file.endswith(".json") else tomllib.loads(text)
    except ValueError as error:
        raise UsageError(
            f"{file} is no {'JSON' if file.endswith('.json') else 'TOML'}: {error}", next_step="see docs/concepts.md"
        ) from None
    if not isinstance(read, dict):
        raise UsageError(f"{file} holds no keys of a contract", next_step='write it as {"model": "...", ...}')
    return read


def _tell(
    about: subject.Subject,
    checks: Sequence[Check],
    told: Sequence[Note],
    *,
    adopted: bool,
    revision_text: str | None,
    as_json: bool,
) -> None:
    where = about.where
    label = where.label.removesuffix(f" {where.version}")
    failed = [check for check in checks if check.blocks]
    if as_json:
        output.print_json(
            {
                "target": label,
                "version": where.version,
                "column": about.column,
                "adopted": adopted,
                "passed": not failed,
                "revision": revision_text,
                "checks": checks,
                "notes": told,
            }
        )
        return
    if revision_text is not None:
        output.say(revision_text)
        return
    rows = [(check.check, "skipped" if check.skipped else check.passed, check.found, check.wanted) for check in checks]
    output.table(f"{about.name} as {where.label}", ("check", "passed", "found", "wanted"), rows)
    for note in told:
        output.say(f"Mind: {note.found}. {note.hazard}. Next: {note.next}")
    for check in failed[1:]:
        output.say(f"{check.check}: {check.next}")
    if failed:
        raise GateError(
            f"{where.label} is not adopted: {failed[0].found}",
            hazard="Vectors of different models rank against each other at random, and no query fails",
            next_step=failed[0].next,
        )
    if adopted:
        output.say(
            f"{where.label} is active; no row was rewritten. Next: op.add_embedding({where.table.name!r}, 'v2', ...) "
            "adds the next model"
        )
    else:
        output.say(
            f"{where.label} can be adopted; what was found is kept for op.adopt_embedding(). Nothing was changed."
        )
