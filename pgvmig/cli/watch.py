"""`pgvmig watch`."""

from __future__ import annotations

import sys
from collections import deque
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import click

from pgvmig import config
from pgvmig.cli import output, switching
from pgvmig.cli.stopping import stopping
from pgvmig.watch.judging import Judgement
from pgvmig.watch.looking import Action, Look
from pgvmig.watch.loop import Options, watch

TRIPPED = 4


@click.command("watch")
@click.argument("target")
@click.option("--once", is_flag=True, help="Look once.")
@click.option("--interval", type=output.DURATION, default="10s", show_default=True, help="Between two looks.")
@click.option("--max-time", type=output.DURATION, help="End after so long with exit code 0. [default: never]")
@click.option("--roll-back", is_flag=True, help="Go back when a trigger trips, instead of only saying so.")
@click.option("--keep", type=output.DURATION, help="Forget what services reported longer ago, such as 30d.")
@output.options
def command(
    target: str,
    once: bool,
    interval: timedelta,
    max_time: timedelta | None,
    roll_back: bool,
    keep: timedelta | None,
    dsn: str | None,
    as_json: bool,
) -> int:
    """Check TARGET's rollback triggers again and again; end with exit code 4 when one has tripped.

    Judged are the active version since its switch, and a version that is tried on a share of the keys. With
    --roll-back the active one is left by a rollback (its gates hold), a tried one by `pgvmig route --off`; the event
    names the trigger and its figures, and the smoke queries follow. Where that is refused it is tried again while the
    trigger trips. With too few values nothing trips. A server that restarts or fails over is waited for.

    \b
    JSON, a line for each look: {"target", "at", "active": "v2", "trials": [{"version", "against", "candidate",
           "since"}], "triggers": [{"metric", "comparison", "bound", "relative", "statistic", "over", "min_values",
           "version", "against", "finding": "ok", "values", "figure", "limit", "baseline", "baseline_values"}],
           "tripped": false, "action": null or {"verb", "version", "changed", "reason", "refused"}, "trouble": null,
           "next": null}; finding: ok, tripped, too few values, no baseline. After a rollback one more line:
           {"target", "smoke": [...]}, as `pgvmig rollback`
    """
    looks: deque[Look] = deque(maxlen=1)
    with stopping() as stop:
        tripped = watch(
            Options(
                dsn=config.dsn(dsn),
                target=target,
                once=once,
                interval=interval.total_seconds(),
                max_time=max_time.total_seconds() if max_time else None,
                roll_back=roll_back,
                keep=keep,
                report=lambda look: _report(look, looks, as_json=as_json),
                stop=stop,
            )
        )
    if looks and looks[0].action is not None:
        _smoke(looks[0], looks[0].action, dsn, as_json=as_json)
    return TRIPPED if tripped else 0


def _report(look: Look, looks: deque[Look], *, as_json: bool) -> None:
    looks.append(look)
    if as_json:
        output.print_json(plain(look))
    else:
        _print(look)
    sys.stdout.flush()  # nobody waits for a full buffer at 3 a.m.


def _smoke(look: Look, action: Action, dsn: str | None, *, as_json: bool) -> None:
    """Run the smoke queries after a rollback."""
    if action.verb != "roll back" or not action.changed:
        return
    outcome = dict(action.done or {})
    with output.connect(dsn) as conn:
        switching.smoke_after(conn, look.target, outcome, as_json=as_json)
    if as_json:
        output.print_json({"target": look.target, "smoke": outcome["smoke"]})


def plain(look: Look) -> dict[str, Any]:
    """Return a look as JSON has it."""
    return {
        "target": look.target,
        "at": look.at,
        "active": look.active,
        "trials": [asdict(trial) for trial in look.trials],
        "triggers": [_plain_judgement(judgement) for judgement in look.judgements],
        "tripped": bool(look.tripped),
        "action": _plain_action(look.action),
        "trouble": look.trouble,
        "next": look.next_step() if look.action is None else None,
    }


def _plain_judgement(judgement: Judgement) -> dict[str, Any]:
    fields = asdict(judgement)
    trigger: dict[str, Any] = fields.pop("trigger")
    return trigger | fields


def _plain_action(action: Action | None) -> dict[str, Any] | None:
    if action is None:
        return None
    refused = action.refused
    return {
        "verb": action.verb,
        "version": action.version,
        "changed": action.changed,
        "reason": action.reason,
        "refused": refused and {"found": refused.found, "next": refused.next_step},
    }


def _print(look: Look) -> None:
    if sys.stdout.isatty() and look.judgements:
        _table(look)
    else:
        output.say(line(look))
    for said in remarks(look):
        output.say(said)


def _table(look: Look) -> None:
    rows = [
        (j.version, j.trigger.name, _figure(j.figure), _figure(j.limit), j.values, j.finding) for j in look.judgements
    ]
    title = f"{_clock(look.at)} {look.target}: {look.active} is active"
    output.table(title, ("version", "trips when", "figure", "limit", "values", "finding"), rows)


def line(look: Look) -> str:
    """Return a look as one line."""
    if look.trouble or not look.judgements:
        return f"{_clock(look.at)} {look.trouble}"
    found = [f"{'TRIPPED ' if j.tripped else ''}{j.version} {j.text}" for j in look.judgements]
    return f"{_clock(look.at)} {look.target}: {'; '.join(found)}"


def remarks(look: Look) -> list[str]:
    """Return what is done about it, or what to do."""
    action = look.action
    if action is None:
        step = look.next_step()
        return [f"Next: {step}"] if step else []
    if action.refused is not None:
        step = f" Next: {action.refused.next_step}" if action.refused.next_step else ""
        return [f"Not gone back: {action.refused.found}.{step}"]
    if not action.changed:
        return [f"{look.target} {action.version} has been left already."]
    done = (action.done or {}).get("version")
    if action.verb == "unroute":
        return [f"{look.target}: no key goes to {action.version} any more. Next: pgvmig status {look.target}"]
    return [f"{look.target}: rolled back, {action.version} -> {done}. Next: pgvmig status {look.target}"]


def _figure(value: float | None) -> str | None:
    return None if value is None else f"{value:.4g}"


def _clock(at: datetime | None) -> str:
    return f"{at.astimezone() if at else datetime.now().astimezone():%H:%M:%S}"
