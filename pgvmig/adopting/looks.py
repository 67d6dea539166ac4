"""What a sample is asked: dimensions, lengths, and whether the provider makes its vectors again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, TypeAlias

from pgvmig import adoptable, lengths
from pgvmig.adoptable import Check
from pgvmig.adopting import mixture, sample
from pgvmig.adopting.mixture import Sampled
from pgvmig.adopting.sample import Sample
from pgvmig.adopting.subject import Subject
from pgvmig.checks import identity
from pgvmig.checks.evidence import listed
from pgvmig.errors import ConfigError, PgvmigError, ProviderError, ProviderUnavailableError
from pgvmig.runner import ConnectionRunner

# Below it another model made them; a forgotten prefix or a changed text leaves more in common.
_ANOTHER_MODEL = 0.6
_GROUPS_SHOWN = 6

Report: TypeAlias = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How much is looked at, how like a vector made again must be, and what shall not count."""

    sample: int = 200
    min_cosine: float = 0.99
    skip: Sequence[str] = ()


def look(subject: Subject, options: Options, report: Report, called: Callable[[str], str]) -> Iterator[Check]:
    """Yield every check, the cheapest first; a skipped one is not measured where that costs something.

    `called` says how people call a group.
    """
    run = ConnectionRunner(subject.conn)
    if not subject.has_dimensions:
        yield _dimensions(subject, called)
    yield _unless_blocking(adoptable.check_index(run, subject.where, subject.column, subject.contract), options)
    drawn = sample.draw(subject, options.sample)
    yield _unless_blocking(_lengths(subject, drawn), options)
    if "identity" in options.skip:
        yield Check(
            check="identity", passed=False, skipped=True, found="not compared", wanted=_wanted(options), measured={}
        )
    else:
        yield _identity(subject, drawn, options, report, called)


def _unless_blocking(check: Check, options: Options) -> Check:
    return replace(check, skipped=not check.passed and check.check in options.skip)


def _dimensions(subject: Subject, called: Callable[[str], str]) -> Check:
    """Count a column that takes vectors of any dimensions, all of it: there one row is enough to fail a search."""
    with subject.looking() as cursor:
        rows = cursor.execute(subject.query("dimensions"), {}).fetchall()
    wanted, total = subject.contract.dimensions, sum(row["vectors"] for row in rows)
    fit = sum(row["vectors"] for row in rows if row["dimensions"] == wanted)
    others = ", ".join(
        f"{row['vectors']:,} have {row['dimensions']:,}" + _group(subject, row["value"], called)
        for row in rows
        if row["dimensions"] != wanted
    )
    return Check(
        check="dimensions",
        passed=fit == total,
        found=f"{total:,} vectors of {wanted:,} dimensions"
        if fit == total
        else f"mixed: of {total:,} vectors {fit:,} ({fit / total:.1%}) have {wanted:,} dimensions, {others}",
        wanted=f"every vector has {wanted:,} dimensions",
        next=None if fit == total else _separate(subject),
        measured={"vectors": total, "fit": fit, "found": rows},
    )


def _group(subject: Subject, value: str | None, called: Callable[[str], str]) -> str:
    return "" if subject.by is None else f" ({subject.by} {'NULL' if value is None else called(value)})"


def _lengths(subject: Subject, drawn: Sample) -> Check:
    norms = [row["norm"] for row in drawn.rows]
    allowed = lengths.tolerance(subject.contract)
    counted = {
        "vectors": len(norms),
        "zero": sum(norm < 1e-18 for norm in norms),  # noqa: PLR2004  # as PostgreSQL computes it, in float32
        "wrong": sum(norm >= 1e-18 and abs(norm - 1) > allowed for norm in norms),  # noqa: PLR2004
        "shortest": min(norms, default=None),
        "longest": max(norms, default=None),
    }
    return adoptable.judge_lengths(subject.contract, counted, allowed)


def _identity(subject: Subject, drawn: Sample, options: Options, report: Report, called: Callable[[str], str]) -> Check:
    rows = [row for row in drawn.rows if (row["input"] or "").strip()]
    without_text = len(drawn.rows) - len(rows)
    if not rows:
        found = "there are no vectors to make again" + (f"; {without_text:,} rows have no text" * bool(without_text))
        return Check(check="identity", passed=True, found=found, wanted=_wanted(options), measured={"sampled": 0})
    report("embedding a sample again", 0, len(rows))
    try:
        answers = identity.embedded(subject.contract, [row["input"] for row in rows])
    except (ConfigError, ProviderError) as error:
        return _not_compared(subject, options, error)
    report("embedding a sample again", len(rows), len(rows))
    sampled, refused = _compared(subject, options, rows, answers)
    return _Judgement(subject, options, drawn, sampled, refused, without_text, called).check()


def _compared(
    subject: Subject, options: Options, rows: Sequence[dict[str, Any]], answers: Sequence[Any]
) -> tuple[list[Sampled], list[str]]:
    from pgvmig.embedders import Failure

    sampled, refused = [], []
    for row, answer in zip(rows, answers, strict=True):
        if isinstance(answer, Failure):
            refused.append(answer.error)
            continue
        found = identity.compare(subject.contract, options.min_cosine, row["key"], row["vector"], answer)
        telling = dict(zip(subject.telling, row["telling"], strict=True))
        sampled.append(
            Sampled(key=row["key"], fits=found.same, cosine=found.cosine, group=row["value"], telling=telling)
        )
    return sampled, refused


@dataclass(frozen=True, slots=True)
class _Judgement:
    """What the comparison of a sample means for the column."""

    subject: Subject
    options: Options
    drawn: Sample
    sampled: Sequence[Sampled]
    refused: Sequence[str]
    without_text: int
    called: Callable[[str], str]

    def check(self) -> Check:
        others = [row for row in self.sampled if not row.fits]
        return Check(
            check="identity",
            passed=not others and not self.refused,
            found=self._found(others),
            wanted=_wanted(self.options),
            next=self._next(others) if others or self.refused else None,
            measured=self._measured(others),
        )

    def _found(self, others: Sequence[Sampled]) -> str:
        total, fit = len(self.sampled), len(self.sampled) - len(others)
        model = f"{self.subject.contract.model} of provider {self.subject.contract.provider!r}"
        if self.refused and not others:
            return f"the provider refuses {len(self.refused):,} sampled texts: {self.refused[0]}"
        if not others:
            return f"{model} makes all {total:,} sampled vectors again{_cosines(self.sampled)}; {self._sure()}"
        if not fit:
            return f"none of {total:,} sampled vectors is what {model} makes{_cosines(others)}: {_meaning(others)}"
        rows = f"rows {listed([row.key for row in others])}{self._told()}"
        if _near(others):
            return (
                f"{fit:,} of {total:,} sampled vectors are what {model} makes, {self._share()}; the others are near"
                f"{_cosines(others)}: {_meaning(others)}: {rows}"
            )
        return (
            f"mixed: {fit:,} of {total:,} sampled vectors are what {model} makes, {self._share()}; the others are "
            f"not{_cosines(others)}: {rows}"
        )

    def _sure(self) -> str:
        total = len(self.sampled)
        if self.drawn.whole:
            return "the column has no others"
        if self.subject.by is not None:
            found = mixture.groups(self.sampled)
            return f"{len(found):,} values of {self.subject.by}, at least {min(g.sampled for g in found)} rows of each"
        return (
            f"if {mixture.largest_missed(total):.1%} of the column were something else, a sample of {total:,} would "
            "miss it in one case of twenty"
        )

    def _share(self) -> str:
        if self.drawn.whole:
            return f"{sum(row.fits for row in self.sampled) / len(self.sampled):.1%} of the column"
        if self.subject.by is not None:
            share = mixture.weighted_share(mixture.groups(self.sampled), self.drawn.sizes)
            return f"about {share:.1%} of the column"
        least, most = mixture.interval(sum(row.fits for row in self.sampled), len(self.sampled))
        return f"{least:.1%} to {most:.1%} of the column (95 % confidence)"

    def _told(self) -> str:
        if self.subject.by is not None:
            bad = [group for group in mixture.groups(self.sampled) if group.fit < group.sampled]
            said = "; ".join(
                f"{'NULL' if g.value is None else self.called(g.value)}: {g.fit} of {g.sampled} fit"
                for g in bad[:_GROUPS_SHOWN]
            )
            return f". By {self.subject.by}: {said}" + ("; …" if len(bad) > _GROUPS_SHOWN else "")
        told = mixture.tells(self.sampled, self.subject.telling, self.subject.dates)
        return f". {told}" if told else ""

    def _next(self, others: Sequence[Sampled]) -> str:
        if others and len(others) < len(self.sampled):
            return _compare_texts(self.subject) if _near(others) else _separate(self.subject)
        return (
            f"compare model, input, prefix and endpoint of provider {self.subject.contract.provider!r} with what the "
            "application embeds; where nobody can ask that model any more, --skip-identity --reason '...'"
        )

    def _measured(self, others: Sequence[Sampled]) -> dict[str, Any]:
        total = len(self.sampled)
        cosines = [row.cosine for row in self.sampled if row.cosine is not None]
        least, most = mixture.interval(total - len(others), total)
        return {
            "sampled": total,
            "fit": total - len(others),
            "refused": len(self.refused),
            "without_text": self.without_text,
            "share": [least, most] if self.subject.by is None else None,
            "missed": 0.0 if self.drawn.whole else mixture.largest_missed(total),
            "worst": min(cosines, default=None),
            "median": median(cosines) if cosines else None,
            "limit": self.options.min_cosine,
            "keys": [row.key for row in others[:5]],
            "groups": [
                {"value": g.value, "fit": g.fit, "sampled": g.sampled, "vectors": self.drawn.sizes.get(g.value)}
                for g in (mixture.groups(self.sampled) if self.subject.by is not None else [])
            ],
        }


def _cosines(rows: Sequence[Sampled]) -> str:
    cosines = [row.cosine for row in rows if row.cosine is not None]
    return f" (cosines: worst {min(cosines):.3f}, median {median(cosines):.3f})" if cosines else ""


def _near(others: Sequence[Sampled]) -> bool:
    return median(row.cosine or 0.0 for row in others) >= _ANOTHER_MODEL


def _meaning(others: Sequence[Sampled]) -> str:
    if not _near(others):
        return "another model made them, or they are of other texts"
    return "a near relation of the model made them, or input, prefix, preprocessing or truncation is another"


def _compare_texts(subject: Subject) -> str:
    return (
        f"compare input {subject.contract.input!r}, prefix and --max-input with the text that the application embeds; "
        f"rows whose text has changed since are embedded again, or set {subject.column} to NULL there and adopt with "
        "--writer worker"
    )


def _separate(subject: Subject) -> str:
    return (
        f"rows of one model only can be adopted: move the others into a table of their own, or set their "
        f"{subject.column} to NULL and let the worker make them (--writer worker); docs/adopt.md has both"
    )


def _not_compared(subject: Subject, options: Options, error: PgvmigError) -> Check:
    answered = error.data.get("kind") in identity.NOT_OF_THE_CONTRACT
    what = "answers with what is not of this contract" if answered else "could not be asked"
    step = None if isinstance(error, ProviderUnavailableError) else error.next_step
    return Check(
        check="identity",
        passed=False,
        found=f"provider {subject.contract.provider!r} {what}: {error.found}",
        wanted=_wanted(options),
        next=f"{step or 'run this again when it answers'}; or --skip-identity --reason '...'",
        measured={"sampled": 0},
    )


def _wanted(options: Options) -> str:
    return f"each sampled vector, made again, has a cosine of at least {options.min_cosine:g} with the stored one"
