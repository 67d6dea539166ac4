"""How gates' answers are printed, and the exit code that they mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from pgvmig.checks.gates import GateResult
from pgvmig.cli import output
from pgvmig.errors import GateError


def tell(results: Sequence[GateResult], name: str, *, as_json: bool, **more: Any) -> None:
    """Print what the gates found. Raises GateError with the first that failed; as JSON it only sets the exit code.

    `more` is what else the JSON holds.
    """
    failures = [result for result in results if not result.passed]
    if as_json:
        output.print_json({"passed": not failures, "gates": list(results), **more})
        if failures:
            raise click.exceptions.Exit(GateError.exit_code)
        return
    if not results:
        output.say(f"{name}: the table is empty, there is nothing to guard.")
        return
    rows = [(result.gate, result.passed, result.found, result.wanted) for result in results]
    output.table(f"Gates of {name}", ("gate", "passed", "found", "limit"), rows)
    for result in failures[1:]:
        output.say(f"{result.gate}: {result.next}")
    if failures:
        raise GateError(f"{name} is not ready: {failures[0].found}", next_step=failures[0].next)
