"""What tests of the search helper share: models, what exact search must find, and who embeds queries."""

from __future__ import annotations

import threading
from contextlib import contextmanager

from lifecycle import add_version
from psycopg.pq import TransactionStatus
from vectors import write

from pgvmig.demo.models import HashModel

DIMENSIONS = 8
V1 = {"model": "one", "dimensions": DIMENSIONS}
V2 = {"model": "two", "dimensions": DIMENSIONS}
TEXTS = {number: f"text number {number}" for number in range(1, 21)}


def model(contract):
    """Return the model of a contract: another name, prefix or length is another space."""
    return HashModel(contract.model, contract.dimensions, salt=contract.query_prefix)


def vectors(contract, texts=TEXTS):
    return dict(zip(texts, model(contract).embed(list(texts.values())), strict=True))


def ranking(contract, text, limit=10):
    """Return the ids that exact cosine search must find."""
    (query,) = model(contract).embed([text])
    all_vectors = vectors(contract)
    return sorted(all_vectors, key=lambda number: -float(all_vectors[number] @ query))[:limit]


class Embedders:
    """Opens embedders that remember what they were asked; `before_answer` happens while a query is embedded."""

    def __init__(self):
        self.opened = []
        self.closed = []
        self.asked = []
        self.before_answer = []

    def __call__(self, contract):
        self.opened.append(contract.model)
        return _Embedder(self, contract)


class _Embedder:
    def __init__(self, owner, contract):
        self.owner, self.contract = owner, contract

    def embed_query(self, text):
        self.owner.asked.append((self.contract.model, text))
        if self.owner.before_answer:
            self.owner.before_answer.pop(0)()
        return model(self.contract).embed([text])[0]

    def close(self):
        self.owner.closed.append(self.contract.model)


class Pool:
    """The little of psycopg_pool.ConnectionPool that a searcher uses."""

    def __init__(self, database, **options):
        self.idle = [database.connect(**options) for _ in range(3)]
        self.most = threading.Semaphore(3)

    @contextmanager
    def connection(self):
        with self.most:
            connection = self.idle.pop()
            try:
                yield connection
            finally:
                assert connection.info.transaction_status == TransactionStatus.IDLE
                self.idle.append(connection)


def ids(result):
    return [row["id"] for row in result.rows]


def retire(connection, version):
    connection.execute("SELECT pgvmig.retire(%s::oid, %s, soak => '0')", (version.relation, version.version))


def replace(connection, name, contract):
    """Drop a version with its vectors and add another contract's under the same name."""
    connection.execute("SELECT pgvmig.drop_version('documents', %s, destroy => true)", (name,))
    version = add_version(connection, "documents", name, contract)
    write(connection, version, vectors(version.contract))
    return version
