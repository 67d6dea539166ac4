"""The demo's main job: one whole migration on an embedded PostgreSQL with a standby, under live traffic.

Everything is done as a user would do it: autogenerate writes the second model's revision when the declaration is
changed, Alembic applies the revisions one after the other, the worker runs as a process of its own, again and again as
cron would start it, and the application knows plain SQL only.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from openai import OpenAI

from pgvmig.demo import corpus, project, stage
from pgvmig.demo.measured import Measured
from pgvmig.demo.models import Vectors
from pgvmig.demo.traffic import Application
from pgvmig.errors import GateError
from pgvmig.evaluation.verdict import EXIT_CODES, NDCG

# Passages that the application's writer inserts, beside the corpus.
SPARE = 100
# How long the application runs on after each switch.
AFTERWARDS = 4.0
_BATCH = 64
_VERIFICATIONS = 5
# In production a version is retired a day after the last search in it; the demo has not so much time.
_SOAK = "2s"
_VERDICTS = tuple(set(EXIT_CODES.values()))

# What is being done, how much of it is done, and of how much where that is known.
Report: TypeAlias = Callable[[str, int, int | None], None]
# What is worth reading while it runs.
Show: TypeAlias = Callable[[str], None]
# From when to when, on the monotonic clock.
Span: TypeAlias = tuple[float, float]


@dataclass(kw_only=True)
class Steps:
    """What the steps took and saw."""

    rows: int = 0
    model_change: str = ""
    revision: str = ""
    checks: int = 0
    backfill: Span = (0.0, 0.0)
    evaluation: dict[str, Any] = field(default_factory=dict)
    cutover: Span = (0.0, 0.0)
    rollback: Span = (0.0, 0.0)
    again: Span = (0.0, 0.0)
    scans: tuple[int, int] = (0, 0)
    gates: list[dict[str, Any]] = field(default_factory=list)


class Journey:
    """One migration from v1 to v2, back, forth, and the end of v1."""

    def __init__(
        self,
        here: stage.Stage,
        subject: corpus.Corpus,
        spare: list[corpus.Passage],
        *,
        report: Report,
        show: Show,
        html: Path,
    ) -> None:
        self.here = here
        self.corpus = subject
        self.spare = spare
        self.report = report
        self.show = show
        self.html = html
        self.steps = Steps()
        self.texts = [query.text for query in subject.queries]
        self.vectors = {
            model: [_as_text(vector) for vector in self.embed(provider, model, self.texts)]
            for provider, model in stage.MODELS.items()
        }
        self.application = Application(here.dsn, spare, subject.queries, self.vectors)

    def embed(self, provider: str, model: str, texts: list[str]) -> Vectors:
        """Return the demo's own vectors of texts, asked for without pgvmig."""
        client = OpenAI(base_url=self.here.models.base_url(provider), api_key=stage.KEY)
        answers = [
            client.embeddings.create(model=model, input=texts[start : start + _BATCH]).data
            for start in range(0, len(texts), _BATCH)
        ]
        return np.array([item.embedding for answer in answers for item in answer], dtype=np.float32)

    def go(self) -> None:
        """Apply the revisions one after the other, with the worker between them and the application throughout."""
        self.here.project.upgrade("0002")
        self._load()
        self.here.pgvmig("standby", "add", stage.STANDBY, "--standby-dsn", self.here.standby_dsn)
        with self.application.running(), self.here.lag_sampled():
            self.here.project.upgrade("0003")
            with self.here.cron():
                self._first_model()
                self._second_model()
                self._there_and_back()
                self._write_report()
                self._retire("v1")
                self._pause("searching in v2 alone")
        self._count_rows()

    def _retire(self, version: str) -> None:
        """Wait until neither the primary nor the standby has searched in it for a while, then retire it."""
        self.report(f"retiring {version}", 0, None)
        soaked = ("retire", "documents", version, "--check", "--soak", _SOAK)
        while not self.here.answer(*soaked, codes=(0, stage.BLOCKED))["passed"]:
            self.here.raise_for_cron()
            time.sleep(1)
        self.here.project.bring("0007")
        self.here.project.upgrade("0007", told=[f"pgvmig_soak=documents.{version}:{_SOAK}"])
        self._check()

    def _first_model(self) -> None:
        self._wait_until_ready("v1", "backfilling v1")
        self.here.pgvmig("index", "documents", "v1")
        self._verify("v1")
        self.here.project.upgrade("0004")
        self._check()
        self.application.search()

    def _second_model(self) -> None:
        began = time.monotonic()
        self._declare_it()
        self._wait_until_ready("v2", "backfilling v2")
        self.steps.backfill = (began, time.monotonic())
        self.report("indexing v2", 0, None)
        self.here.pgvmig("index", "documents", "v2")
        self._check()
        self.steps.evaluation = self._evaluate()

    def _declare_it(self) -> None:
        """Change the model's declaration, and let autogenerate write the revision."""
        self.report("declaring the second model", 0, None)
        self.steps.model_change = self.here.project.change_the_model()
        self.show(f"models.py is changed:\n{self.steps.model_change}")
        written = self.here.project.autogenerate("embedding v2", "0005")
        self.steps.revision = written.read_text(encoding="utf-8")
        self.show(f"alembic revision --autogenerate writes {written.name}:\n{project.statements(written)}")
        self.here.project.upgrade("0005")
        self._check()  # while the backfill has just begun

    def _check(self) -> None:
        """Run `alembic check`, which must find nothing at any time."""
        self.here.project.check()
        self.steps.checks += 1

    def _there_and_back(self) -> None:
        self.here.project.bring("0006")
        self.steps.cutover = self._cut_over("v2", "0006")
        self._check()
        self._pause("searching in v2")
        self.steps.rollback = self._timed(lambda: self.here.project.downgrade("-1"))
        self._pause("rolled back, searching in v1")
        self.steps.again = self._cut_over("v2", "0006")
        self._pause("cut over again, searching in v2")
        scans = self.here.rows(
            "SELECT indexrelname, idx_scan FROM pg_stat_user_indexes WHERE indexrelname ~ '_hnsw$' ORDER BY 1"
        )
        self.steps.scans = (scans[0][1], scans[1][1])

    def _cut_over(self, version: str, revision: str) -> Span:
        """Verify and cut over; what was verified may be outdated a moment later, as `_verify` says."""
        for _ in range(_VERIFICATIONS - 1):
            self.steps.gates = self._verify(version)
            with contextlib.suppress(GateError):
                return self._timed(lambda: self.here.project.upgrade(revision))
        self.steps.gates = self._verify(version)
        return self._timed(lambda: self.here.project.upgrade(revision))

    def _verify(self, version: str) -> list[dict[str, Any]]:
        """Run every gate, as somebody does who is about to cut over; one that fails ends the demo.

        On a slow machine the application may write a tenth of so small a table meanwhile: then it is outdated.
        """
        self.report(f"verifying {version}", 0, None)
        check = ("cutover", "documents", version, "--check")
        for _ in range(_VERIFICATIONS):
            gates: list[dict[str, Any]] = self.here.answer("verify", "documents", version)["gates"]
            if self.here.answer(*check, codes=(0, stage.BLOCKED))["passed"]:
                break
        return gates

    def _write_report(self) -> None:
        """Leave the page about all of this, while there is still a way back to show."""
        self.report("writing the report", 0, None)
        self.here.pgvmig("report", "documents", "--html", str(self.html))

    def _load(self) -> None:
        """Fill the table in the order of the passages' ids, as an application's import would."""
        with self.here.connect() as conn, conn.cursor() as cursor:
            with cursor.copy("COPY documents (title, body) FROM STDIN") as copy:
                for passage in self.corpus.passages:
                    copy.write_row((passage.title, passage.body))
            cursor.execute("ANALYZE documents")

    def _wait_until_ready(self, version: str, what: str) -> None:
        """Follow the worker, which runs by itself, until it says that nothing is left."""
        query = f"SELECT count(*), count(embedding_{version}) FROM documents"  # noqa: S608  # v1 or v2
        state = "SELECT state FROM pgvmig.version WHERE version = %s"
        while self.here.rows(state, [version])[0][0] in ("added", "backfilling"):
            self.here.raise_for_cron()
            total, done = self.here.rows(query)[0]
            self.report(what, done, total)
            time.sleep(0.2)

    def _evaluate(self) -> dict[str, Any]:
        """Compare both versions on the corpus's judged queries; whatever the verdict is, it is shown in the end."""
        self.report("evaluating v2 against v1", 0, None)
        with tempfile.TemporaryDirectory() as folder:
            queries, qrels = Path(folder, "python-docs.jsonl"), Path(folder, "qrels.tsv")
            queries.write_text("\n".join(json.dumps({"id": q.id, "text": q.text}) for q in self.corpus.queries))
            qrels.write_text(
                "\n".join(f"{q.id}\t{row}\t{grade}" for q in self.corpus.queries for row, grade in q.relevant.items())
            )
            files = ("--queries", str(queries), "--qrels", str(qrels))
            found: dict[str, Any] = self.here.answer("evaluate", "documents", "v1", "v2", *files, codes=_VERDICTS)
        return found

    def _timed(self, step: Callable[[], None]) -> Span:
        began = time.monotonic()
        step()
        return began, time.monotonic()

    def _pause(self, what: str) -> None:
        self.report(what, 0, None)
        time.sleep(AFTERWARDS)
        self.here.raise_for_cron()

    def _count_rows(self) -> None:
        self.steps.rows = self.here.rows("SELECT count(*) FROM documents")[0][0]

    def measured(self, began: float) -> Measured:
        """Return the figures. Compares every answer's vectors with the demo's own."""
        self.report("comparing all answers with both models", 0, None)
        tally, steps = self.application.tally, self.steps
        bodies = sorted({passage.body for passage in (*self.corpus.passages, *self.spare)})
        own = {model: self.embed(provider, model, bodies) for provider, model in stage.MODELS.items()}
        wrong = tally.witness.wrong(own)
        embedded, batches = self.here.rows(_RUNS, ["v2"])[0]
        switches = (steps.cutover, steps.rollback, steps.again)
        during = {id(search) for span in switches for search in tally.between(*span)}
        seconds = steps.backfill[1] - steps.backfill[0]
        return Measured(
            rows=steps.rows,
            model_change=steps.model_change,
            revision=steps.revision,
            alembic_checks=steps.checks,
            rows_embedded=embedded,
            batches=batches,
            backfill_seconds=seconds,
            rows_per_second=embedded / seconds,
            peak_replication_lag_seconds=self.here.lag.seconds,
            peak_replication_lag_bytes=self.here.lag.bytes,
            ndcg_at_10_old=steps.evaluation["figures"]["metrics"][NDCG]["old"],
            ndcg_at_10_new=steps.evaluation["figures"]["metrics"][NDCG]["new"],
            verdict=steps.evaluation["verdict"],
            verdict_reason=steps.evaluation["reason"],
            writes=tally.writes,
            searches_answered=tally.answered,
            searches_failed=len(tally.errors),
            searches_wrong_space=wrong,
            errors=tally.errors[:5],
            index_scans_old=steps.scans[0],
            index_scans_new=steps.scans[1],
            gates_passed=[gate["gate"] for gate in steps.gates if gate["passed"]],
            recall_at_10=_of(steps.gates, "recall", "recall"),
            identity_worst_cosine=_of(steps.gates, "identity", "worst"),
            missing_at_cutover=self.here.rows(_MISSING)[0][0],
            longest_search_during_swap_seconds=_longest(s for s in tally.searches if id(s) in during),
            longest_search_otherwise_seconds=_longest(s for s in tally.searches if id(s) not in during),
            cutover_seconds=steps.cutover[1] - steps.cutover[0],
            rollback_seconds=steps.rollback[1] - steps.rollback[0],
            total_seconds=time.monotonic() - began,
            report=str(self.html),
        )


_RUNS = """
SELECT coalesce(sum(rows_written), 0)::bigint, coalesce(sum(batches), 0)::bigint
FROM pgvmig.backfill_run JOIN pgvmig.version USING (version_id) WHERE version = %s
"""
_MISSING = """
SELECT (detail ->> 'missing')::bigint FROM pgvmig.event
WHERE verb = 'cut over' AND version = 'v2' AND to_state = 'active' ORDER BY event_id LIMIT 1
"""


def run(rows: int, report: Report, show: Show, html: Path | None = None) -> Measured:
    """Run the demo and return what it measured. Servers and processes are stopped, whatever happens.

    `report` is told how far it is, `show` what there is to read. What stays is the page about it, `html` or a file in a
    new folder for temporary files.

    Raises UsageError when the corpus has not so many rows, ConfigError without the demo's packages.
    """
    began = time.monotonic()
    report("building the corpus", 0, None)
    subject, spare = _split(corpus.build(rows + SPARE), rows)
    with ExitStack() as stack:
        report("starting PostgreSQL, a standby and the models", 0, None)
        html = html or Path(tempfile.mkdtemp(prefix="pgvmig-demo-")) / "report.html"
        journey = Journey(stage.enter(stack), subject, spare, report=report, show=show, html=html)
        journey.go()
        return journey.measured(began)


def _split(whole: corpus.Corpus, rows: int) -> tuple[corpus.Corpus, list[corpus.Passage]]:
    """Return the first `rows` passages with the queries that they answer, and the other passages."""
    queries = [
        replace(query, relevant={number: grade for number, grade in query.relevant.items() if number <= rows})
        for query in whole.queries
    ]
    subject = corpus.Corpus(whole.passages[:rows], tuple(query for query in queries if query.relevant))
    return subject, list(whole.passages[rows:])


def _as_text(vector: Any) -> str:
    return "[" + ",".join(map(str, vector.tolist())) + "]"


def _of(gates: list[dict[str, Any]], name: str, figure: str) -> float | None:
    """Return a figure that a gate measured, None when it had nothing to measure."""
    value: float | None = next(gate["measured"].get(figure) for gate in gates if gate["gate"] == name)
    return value


def _longest(searches: Any) -> float:
    return max((search.seconds for search in searches), default=0.0)
