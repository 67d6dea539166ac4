"""pgai's vectorizer: a queue and a table beside the documents, filled by its worker; a chunk is a whole text here."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from bench import timing
from bench.peers.environment import Environment, installed
from bench.provider import MODEL, Provider
from bench.stage import Stage

REQUIREMENTS = ("pgai[vectorizer-worker]>=0.12,<0.13",)
_KEY = {"OPENAI_API_KEY": "none", "DD_TRACE_ENABLED": "false"}
_CREATE = """
SELECT ai.create_vectorizer(
    'documents'::regclass,
    name => 'bench',
    loading => ai.loading_column('body'),
    parsing => ai.parsing_none(),
    chunking => ai.chunking_none(),
    embedding => ai.embedding_openai(%(model)s, 384, base_url => %(url)s),
    destination => ai.destination_table('documents_pgai'),
    indexing => ai.indexing_none(),
    scheduling => ai.scheduling_none(),
    processing => ai.processing_default(batch_size => %(batch)s, concurrency => %(tasks)s))
"""
# Its tokenizer counts for the vendor's models only; under a name that it does not know it sends the texts as they are.
UNKNOWN_MODEL = "a-model-of-our-own"


def install(stage: Stage) -> Environment:
    """Return its environment."""
    return installed(stage, "pgai", *REQUIREMENTS)


@dataclass(frozen=True, slots=True)
class Settings:
    """How its worker is run: rows a transaction and request, tasks in a process, processes."""

    batch: int = 50
    tasks: int = 1
    processes: int = 1
    model: str = MODEL


def rate(environment: Environment, dsn: str, served: Provider, settings: Settings) -> float:
    """Embed the table and return its rows per second."""
    environment.run("pgai", "install", "--db-url", dsn, environment={})
    with psycopg.connect(dsn, autocommit=True) as conn:
        # its view shows all of the table's columns beside its own `embedding`
        conn.execute("ALTER TABLE documents RENAME COLUMN embedding TO embedding_v1")
        conn.execute(_CREATE, {**asdict(settings), "url": served.base_url})
    served.counts(reset=True)
    variables = _KEY | {"TIKTOKEN_CACHE_DIR": str(_tokenizers(environment))}
    command = ("pgai", "vectorizer", "worker", "--db-url", dsn, "--once", "--log-level", "WARN")
    with ThreadPoolExecutor() as threads:
        runs = [threads.submit(environment.run, *command, environment=variables) for _ in range(settings.processes)]
    for run in runs:
        run.result()
    return timing.rows_per_second(dsn, sql.Identifier("documents_pgai_store"), "embedding", served)


def _tokenizers(environment: Environment) -> Path:
    """Return where litellm, which pgai brings along, has the tokenizers that would else be downloaded."""
    (folder,) = environment.folder.glob("lib/python*/site-packages/litellm/litellm_core_utils/tokenizers")
    return folder
