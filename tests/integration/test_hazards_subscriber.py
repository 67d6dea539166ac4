"""A real logical subscriber beside the worker: what stops it, and what leaves it alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from backfilling import Site, wait_until
from lifecycle import install
from psycopg.conninfo import conninfo_to_dict
from servers import SETTINGS, Cluster, add_vector

from pgvmig import adding, embedded
from pgvmig.address import address
from pgvmig.demo.model_server import serving
from pgvmig.demo.models import HashModel
from pgvmig.runner import ConnectionRunner

V2 = address("documents", "v2")
pytestmark = pytest.mark.xdist_group("subscriber")

CONTRACT = {"provider": "new", "model": "hash", "model_version": "1", "dimensions": 8, "input": "body"}
TABLE = "CREATE TABLE documents (id int PRIMARY KEY, body text)"


@pytest.fixture(scope="module")
def cluster():
    with embedded.running(settings={**SETTINGS, "wal_level": "logical", "wal_retrieve_retry_interval": "100ms"}) as own:
        with psycopg.connect(own.dsn(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE pgvmig_template")
        add_vector(own.dsn("pgvmig_template"))
        yield Cluster("embedded", own.major, own.dsn(), "pgvmig_template")


@dataclass
class Subscriber:
    """Another database that follows `documents`."""

    publisher: psycopg.Connection[Any]
    connection: psycopg.Connection[Any]

    def rows(self) -> list[tuple[Any, ...]]:
        return self.connection.execute("SELECT id, body FROM documents ORDER BY id").fetchall()

    def follows(self) -> bool:
        """Whether it has what the publisher has."""
        theirs = self.publisher.execute("SELECT id, body FROM documents ORDER BY id").fetchall()
        return self.rows() == theirs

    def errors(self) -> int:
        """How often it has stopped."""
        return self.connection.execute("SELECT apply_error_count FROM pg_stat_subscription_stats").fetchone()[0]


@pytest.fixture
def model_server():
    with serving({"new": HashModel("hash", 8)}) as running:
        yield running


@pytest.fixture
def site(cluster, model_server, monkeypatch):
    monkeypatch.setenv("PGVMIG_NEW_BASE_URL", model_server.base_url("new"))
    with cluster.database() as database:
        made = Site(database, model_server)
        made.documents(definition=TABLE)
        made.execute("INSERT INTO documents SELECT i, 'text ' || i FROM generate_series(1, 50) AS i")
        yield made


@pytest.fixture
def subscribe(cluster, site):
    """Follow a publication from another database of the same cluster; the slot is made first, or both would wait."""
    made = []
    with cluster.database() as database:
        connection = database.connect()

        def start(publication: str) -> Subscriber:
            site.execute(f"CREATE PUBLICATION docs {publication}")
            site.execute("SELECT pg_create_logical_replication_slot('follower', 'pgoutput')")
            connection.execute(TABLE)
            connection.execute("INSERT INTO documents SELECT i, 'text ' || i FROM generate_series(1, 50) AS i")
            parts = {key: value for key, value in conninfo_to_dict(site.database.dsn).items() if value}
            target = " ".join(f"{key}={value}" for key, value in parts.items())
            connection.execute(
                f"CREATE SUBSCRIPTION follower CONNECTION '{target}' PUBLICATION docs "
                "WITH (create_slot = false, slot_name = 'follower', copy_data = false)"
            )
            made.append(connection)
            return Subscriber(site.connection, connection)

        yield start
        for used in made:
            used.execute("ALTER SUBSCRIPTION follower DISABLE")
            used.execute("ALTER SUBSCRIPTION follower SET (slot_name = NONE)")
            used.execute("DROP SUBSCRIPTION follower")
        active = "SELECT 1 FROM pg_replication_slots WHERE slot_name = 'follower' AND active"
        wait_until(lambda: not site.execute(active).fetchone())
        site.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")


def add(site: Site, **options: Any) -> None:
    with site.connection.transaction():
        adding.add(ConnectionRunner(site.connection), V2, CONTRACT, **options)


def test_an_unprepared_subscriber_stops(site, subscribe):
    """What the refusal is about: the column layout, forced."""
    subscriber = subscribe("FOR TABLE documents")
    site.execute("INSERT INTO documents VALUES (51, 'before')")
    wait_until(subscriber.follows)
    add(site, prepared=True)
    assert site.run().why == "done"
    site.execute("INSERT INTO documents VALUES (52, 'after')")
    wait_until(lambda: subscriber.errors() > 0)
    assert (52, "after") not in subscriber.rows()
    subscriber.connection.execute(
        "ALTER TABLE documents ADD embedding_v2 vector(8), ADD embedding_v2_version_id int, "
        "ADD embedding_v2_source_hash bytea, ADD embedding_v2_embedded_at timestamptz"
    )
    wait_until(subscriber.follows)
    assert subscriber.connection.execute("SELECT count(embedding_v2) FROM documents").fetchone() == (51,)


def test_the_table_layout_leaves_it_alone(site, subscribe):
    subscriber = subscribe("FOR TABLE documents")
    add(site, layout="table")
    assert site.run().why == "done"
    assert site.value("SELECT count(*) FROM documents_v2_vectors") == 50
    site.execute("UPDATE documents SET body = 'changed' WHERE id = 7")
    site.execute("INSERT INTO documents VALUES (52, 'after')")
    wait_until(subscriber.follows)
    assert subscriber.errors() == 0


def test_so_does_a_column_list(site, subscribe):
    subscriber = subscribe("FOR TABLE documents (id, body)")
    add(site)
    assert site.run().why == "done"
    assert site.value("SELECT count(embedding_v2) FROM documents") == 50
    site.execute("INSERT INTO documents VALUES (52, 'after')")
    wait_until(subscriber.follows)
    assert subscriber.errors() == 0


def test_a_published_schema_sends_the_side_table_too(site, subscribe):
    subscriber = subscribe("FOR TABLES IN SCHEMA public")
    add(site, layout="table", prepared=True)
    assert site.run().why == "done"
    wait_until(lambda: subscriber.errors() > 0)
    site.execute("INSERT INTO documents VALUES (52, 'after')")
    stopped = subscriber.errors()
    wait_until(lambda: subscriber.errors() > stopped)
    assert (52, "after") not in subscriber.rows()


def test_installing_stops_a_subscriber_of_all_tables(site, subscribe):
    site.execute("DROP SCHEMA pgvmig CASCADE")
    subscriber = subscribe("FOR ALL TABLES")
    assert subscriber.errors() == 0
    install(site.connection)
    wait_until(lambda: subscriber.errors() > 0)
