"""`pgvmig evaluate`: exit codes, JSON, and texts that say what it means."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import date

import pytest
from vectors import cut_over

WITHOUT_EXTRA = (
    "import sys; sys.modules['ir_measures'] = None; sys.argv = ['pgvmig', *sys.argv[1:]]; "
    "from pgvmig.cli import main; main()"
)


@pytest.fixture
def pgvmig(site, pgvmig):
    """Run `pgvmig` with arguments; return the exit code and what it printed."""

    def run(*arguments: object) -> tuple[int, str]:
        done = pgvmig(*map(str, arguments))
        return done.code, done.out + done.err

    return run


@pytest.fixture
def documents(site):
    """Thirty rows, whole in v1, which is active, and in v2, which reads other texts of the first eight."""
    site.documents(30)
    site.execute("UPDATE documents SET note = 'note ' || id WHERE id <= 8")
    v1 = site.version("v1")
    site.version("v2", provider="other", model="other", input="coalesce(note, body)")
    site.run()
    cut_over(site.connection, v1)
    return site


@pytest.fixture
def files(documents, tmp_path):
    """The passages themselves as queries, each answered by its own row: of v2 the first eight find anything."""
    bodies = documents.execute("SELECT id, body FROM documents ORDER BY id").fetchall()

    def write(rows: range = range(1, 31)) -> list[object]:
        queries, qrels = tmp_path / "faq.jsonl", tmp_path / "qrels.tsv"
        lines = [
            json.dumps({"id": f"q{key}", "text": body, "group": "even" if key % 2 == 0 else "odd"})
            for key, body in bodies
            if key in rows
        ]
        queries.write_text("\n".join(lines))
        qrels.write_text("query-id\tcorpus-id\tscore\n" + "\n".join(f"q{key}\t{key}\t1" for key in rows))
        return ["--queries", queries, "--qrels", qrels]

    return write


def test_verdicts_and_their_exit_codes(pgvmig, files, documents):
    code, said = pgvmig("evaluate", "documents", "v1", "v2", *files(range(9, 31)), "--owner", "ann")
    assert code == 0
    lines = said.splitlines()
    assert lines[0] == (
        "documents v1 -> v2: GO: nDCG@10 changed by +0.000 (95 % interval +0.000 to +0.000); it may fall by 0.01."
    )
    assert lines[1].startswith("Quality, 22 judged queries")
    assert "nDCG@10    1.000  1.000  +0.000      +0.000 to +0.000       0      0    22" in said
    assert lines[-1] == "Next: pgvmig verify documents v2, then the cutover"

    code, said = pgvmig("evaluate", "documents", "v1", "v2", *files(), "--json")
    found = json.loads(said)
    assert (code, found["verdict"], found["pilot"]) == (4, "NO-GO", False)
    assert (found["judged_set"]["name"], found["judged_set"]["old"]) == ("faq", False)
    assert [(group["name"], group["queries"]) for group in found["figures"]["groups"]] == [("even", 15), ("odd", 15)]
    code, said = pgvmig("evaluate", "documents", "v1", "v2", *files())
    assert "Queries that lost most" in said
    assert "Next: look at the queries that lost most" in said

    rows = range(8, 31)
    code, said = pgvmig(
        "evaluate", "documents", "v1", "v2", *files(rows), "--max-drop", "ndcg=0.04", "--judged-on", "2020-02-02"
    )
    assert code == 5
    assert "neither kept nor broken for certain" in said
    assert (
        "Warning: faq was judged on 2020-02-02, more than 90 days ago; what people ask, and what answers it, may have "
        "changed. Ask postgres; --judged-on says when it was reviewed."
    ) in said

    code, said = pgvmig("evaluate", "documents", "v1", "v2", *files()[:2])
    assert code == 0
    assert "documents v1 -> v2: no verdict: nobody judged: how alike two versions are does not say which" in said
    assert "This is NOT a quality verdict" in said

    code, said = pgvmig("evaluate", "documents", "--history")
    assert [line.split()[-1] for line in said.splitlines()[2:]] == ["GO", "NO-GO", "NO-GO", "INCONCLUSIVE", "none"]
    kept = json.loads(pgvmig("evaluate", "documents", "--history", "--json")[1])["evaluations"]
    assert [(e["old"], e["new"], e["verdict"]) for e in kept][:2] == [("v1", "v2", "GO"), ("v1", "v2", "NO-GO")]
    assert kept[0]["owner"] == "ann"
    assert kept[0]["judged_on"] == date.today().isoformat()  # noqa: DTZ011  # the file's own date


def test_what_is_required_is_what_counts(pgvmig, files, documents):
    code, said = pgvmig(
        "evaluate", "documents", "v1", "v2", "--require", "--max-drop", "0.9", "--min", "mrr=0.5", "--reason", "agreed"
    )
    assert (code, said) == (
        0, "A cutover to documents v2 needs a GO: nDCG@10 falls by 0.9 at most, MRR@10 is 0.5 or more.\n"
    )  # fmt: skip
    found = json.loads(pgvmig("evaluate", "documents", "v1", "v2", *files(), "--json")[1])
    assert (found["verdict"], found["thresholds"]) == ("GO", {"max_drop": {"nDCG@10": 0.9}, "min": {"MRR@10": 0.5}})
    code, said = pgvmig("evaluate", "documents", "v1", "v2", "--not-required", "--json")
    assert (code, json.loads(said)) == (0, {"changed": True, "thresholds": None})
    assert pgvmig("evaluate", "documents", "v1", "v2", "--not-required")[1] == (
        "A cutover to documents v2 needs no evaluation, as before.\n"
    )


def test_again_and_again_until_the_backfill_is_complete(pgvmig, files, documents):
    code, said = pgvmig("evaluate", "documents", "v1", "v2", *files(range(9, 31)), "--every", "1h", "--json")
    (line,) = said.splitlines()
    assert (code, json.loads(line)["verdict"]) == (0, "GO")
    documents.version("v3", provider="other", model="other")
    documents.execute("UPDATE pgvmig.stale_row SET queued_at = queued_at - interval '1 h'")
    code, said = pgvmig("evaluate", "documents", "v1", "v3", *files(), "--every", "1s", "--max-time", "0s")
    assert (code, said) == (4, "Not yet: no query has a relevant row with a vector in both versions yet.\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["v1"], "Error: it takes two versions\nNext:  pgvmig evaluate documents OLD NEW --queries FILE"),
        (["v1", "v2"], "Error: no queries are given\nNext:  --queries FILE, and --qrels FILE for a verdict"),
        (["v1", "v2", "--require", "--not-required"], "Error: --require and --not-required contradict each other"),
        (["v1", "v2", "--max-drop", "map=0.1"], "there is no metric 'map'; use one of nDCG@10, recall@10, MRR@10"),
        (["v1", "v2", "--min", "much"], "'much' is not a number; write 0.01, or recall@10=0.01"),
        (["v1", "v2", "--max-drop", "5"], "5 is not between 0 and 1, where all metrics are"),
        (["v1", "v2", "--queries", "nowhere.jsonl"], "File 'nowhere.jsonl' does not exist"),
    ],
)
def test_usage(pgvmig, site, arguments, said):
    site.documents(1)
    site.version("v1")
    code, printed = pgvmig("evaluate", "documents", *arguments)
    assert code == 2
    assert said in printed


def test_without_its_extra_it_says_what_to_install(site, tmp_path):
    site.documents(1)
    site.version("v1")
    (tmp_path / "q.jsonl").write_text('{"id": "1", "text": "x"}')
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            WITHOUT_EXTRA,
            "evaluate",
            "documents",
            "v1",
            "v2",
            "--queries",
            str(tmp_path / "q.jsonl"),
        ],
        env=os.environ | {"PGVMIG_DSN": site.database.dsn},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "ir_measures" in done.stderr.splitlines()[0]
    assert done.stderr.splitlines()[-1] == "Next:  pip install 'pgvmig[evaluate]'"
