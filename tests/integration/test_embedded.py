"""The servers that demo and tests run on: that they are what they should be, and gone afterwards."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import psycopg
import pytest
from servers import SETTINGS, Servers

from pgvmig import embedded
from pgvmig.errors import DatabaseError

# Runs a primary and a standby, tells where, and waits for what the test does to it. On Ctrl-C it first looks
# whether the standby still answers, as the demo's own cleanup would want.
CHILD = """
import json, time, psycopg
from pgvmig import embedded

with embedded.running(settings={"fsync": "off"}) as primary, embedded.standby(primary) as standby:
    try:
        for server in (primary, standby):
            print(json.dumps({"pid": server.pid, "port": server.port, "home": str(server.data.parent)}), flush=True)
        time.sleep(120)
    except KeyboardInterrupt:
        with psycopg.connect(standby.dsn()) as connection:
            print(connection.execute("SELECT 'still here'").fetchone()[0], flush=True)
        raise
"""


def is_alive(pid):
    # A zombie has ended; who should reap it may not do so in a container.
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def is_free(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def is_gone(pid, port, home):
    return not is_alive(pid) and is_free(port) and not Path(home).exists()


def facts(server):
    return {"pid": server.pid, "port": server.port, "home": server.data.parent}


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@pytest.fixture
def child():
    """A process of its own that runs a primary and a standby, and the facts of both."""
    command = [sys.executable, "-c", CHILD]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            yield process, [json.loads(process.stdout.readline()) for _ in range(2)]
        finally:
            process.kill()


@pytest.mark.majors(18, 16)
def test_database_is_fresh_and_has_pgvector(database, pg_major):
    connection = database.connect()
    assert connection.info.server_version // 10_000 == pg_major == database.major
    assert connection.execute("SELECT '[1,2]'::vector <-> '[1,3]'").fetchone() == (1.0,)


def test_database_is_dropped_whoever_is_connected(server):
    with server.database() as database:
        connection = psycopg.connect(database.dsn)
        connection.execute("CREATE TABLE documents ()")  # an open transaction, nobody to close it
    with psycopg.connect(server.dsn("postgres")) as observer:
        assert observer.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database.name,)).fetchone() is None
    connection.close()


def test_given_server_is_used_and_another_major_found_elsewhere(primary_and_standby, monkeypatch):
    given, _ = primary_and_standby
    before = templates_of(given)
    monkeypatch.setenv("PGVMIG_TEST_DSN", given.dsn())
    with Servers() as servers:
        assert servers.default_major == 18
        assert (servers.get(18).source, servers.get(18).conninfo) == ("PGVMIG_TEST_DSN", given.dsn())
        assert (servers.get(16).source != "PGVMIG_TEST_DSN", servers.get(16).major) == (True, 16)
        with servers.get(16).database() as database:
            assert database.connect().info.server_version // 10_000 == 16
    assert templates_of(given) == before


def templates_of(server):
    with psycopg.connect(server.dsn()) as connection:
        names = "SELECT datname FROM pg_database WHERE datname LIKE 'pgvmig_template_%' ORDER BY 1"
        return connection.execute(names).fetchall()


def test_standby_replicates_under_its_name(replicated_database):
    connection = replicated_database.connect()
    senders = connection.execute("SELECT application_name, state FROM pg_stat_replication").fetchall()
    slots = connection.execute("SELECT slot_name, active FROM pg_replication_slots").fetchall()
    assert (senders, slots) == ([("standby1", "streaming")], [("standby1", True)])

    connection.execute("CREATE TABLE documents (embedding vector(2))")
    connection.execute("INSERT INTO documents VALUES ('[1,2]')")
    replicated_database.wait_for_replay()
    with psycopg.connect(replicated_database.standby_dsn) as standby:
        assert standby.execute("SELECT pg_is_in_recovery(), embedding::text FROM documents").fetchone() == (
            True,
            "[1,2]",
        )
        assert standby.execute("SHOW wal_receiver_status_interval").fetchone() == ("1s",)


@pytest.mark.standby
def test_everything_is_gone_after_the_block():
    with embedded.running(settings=SETTINGS) as primary:
        with embedded.standby(primary, "other") as standby:
            assert all(map(is_alive, (primary.pid, standby.pid)))
            ran = facts(standby)
        assert (is_gone(**ran), standby.pid) == (True, None)
        with psycopg.connect(primary.dsn()) as connection:
            # A slot that nobody reads keeps WAL forever.
            assert connection.execute("SELECT slot_name FROM pg_replication_slots").fetchall() == []
        ran = facts(primary)
    assert (is_gone(**ran), primary.pid) == (True, None)


@pytest.mark.standby
def test_everything_is_gone_when_the_body_raises():
    ran = []
    with pytest.raises(ZeroDivisionError), embedded.running(settings=SETTINGS) as primary:  # noqa: PT012
        ran.append(facts(primary))
        with embedded.standby(primary) as standby:
            ran.append(facts(standby))
            raise ZeroDivisionError
    assert [is_gone(**server) for server in ran] == [True, True]


@pytest.mark.standby
def test_everything_is_gone_after_ctrl_c(child):
    process, ran = child
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does: to the whole process group
    assert process.stdout.readline().strip() == "still here"
    assert process.wait(60) == -signal.SIGINT
    assert [is_gone(**server) for server in ran] == [True, True]


@pytest.mark.standby
@pytest.mark.parametrize("deadly", [signal.SIGKILL, signal.SIGTERM])
def test_everything_is_gone_after_we_are_killed(child, deadly):
    process, ran = child
    process.send_signal(deadly)
    process.wait(60)
    wait_for(lambda: all(is_gone(**server) for server in ran))


def test_two_servers_at_once():
    with embedded.running(settings=SETTINGS) as one, embedded.running(settings=SETTINGS) as other:
        assert one.port != other.port
        identifiers = set()
        for server in (one, other):
            with psycopg.connect(server.dsn()) as connection:
                identifiers |= set(connection.execute("SELECT system_identifier FROM pg_control_system()").fetchall())
        assert len(identifiers) == 2


def test_server_can_be_reached_by_all_addresses():
    with embedded.running(settings=SETTINGS) as server:
        for address in (
            server.dsn("template1", application_name="me & you"),
            server.url("template1", driver="postgresql"),
            f"host={server.socket_dir} port={server.port} user=postgres dbname=template1",
        ):
            with psycopg.connect(address) as connection:
                assert connection.execute("SELECT current_database()").fetchone() == ("template1",)
        done = subprocess.run([server.psql, server.dsn(), "-Atc", "SELECT 'psql'"], capture_output=True, check=False)
        assert done.stdout.decode().strip() == "psql", done.stderr


def test_a_stopped_or_killed_server_starts_again_on_its_port_with_its_data():
    with embedded.running(settings={"shared_buffers": "32MB"}) as server:
        port = server.port
        with psycopg.connect(server.dsn()) as connection:
            connection.execute("CREATE TABLE documents AS SELECT 'kept'")
        server.stop()
        assert (server.pid, is_free(port)) == (None, True)
        server.start()
        os.kill(server.pid, signal.SIGKILL)
        wait_for(lambda: server.pid is None)
        server.start()
        with psycopg.connect(server.dsn()) as connection:
            assert connection.execute("TABLE documents").fetchone() == ("kept",)
        assert server.port == port


def test_a_server_that_does_not_start_says_why_and_leaves_nothing():
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o777)
        with pytest.raises(DatabaseError, match="did not start; its log ends") as error:  # noqa: SIM117
            with embedded.running(settings={"shared_buffers": "it's much"}, directory=directory):
                pass
        assert """invalid value for parameter "shared_buffers": "it's much\"""" in str(error.value)
        assert list(Path(directory).iterdir()) == []


def test_another_port_is_tried_when_one_is_taken(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = iter([taken.getsockname()[1], embedded._free_port()])
        monkeypatch.setattr(embedded, "_free_port", lambda: next(ports))
        with embedded.running(settings=SETTINGS) as server:
            assert (server.port != taken.getsockname()[1], next(ports, None)) == (True, None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as somebody else")
def test_programs_that_nobody_can_reach_are_copied(tmp_path, monkeypatch):
    tmp_path.chmod(0o700)
    package = embedded._package(18)
    for path in (package, package.with_name(f"{package.name}.libs")):
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.setattr(embedded, "_package", lambda major: tmp_path / package.name)
    with embedded.running(settings=SETTINGS) as server:
        ran = facts(server)
        assert server.psql.startswith(str(server.data.parent))
        with psycopg.connect(server.dsn()) as connection:
            connection.execute("CREATE EXTENSION vector")
    assert is_gone(**ran)
