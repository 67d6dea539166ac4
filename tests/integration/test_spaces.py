"""Two real models of the same dimensions on one table: nothing in PostgreSQL tells their vectors apart, the guard does.

Every answer is judged by its vectors, compared with this file's own copy of both models', never by a label.
"""

import threading
import time
from dataclasses import dataclass, field

import numpy as np
import psycopg
import pytest
from lifecycle import add_version, install
from psycopg import sql
from psycopg.rows import dict_row
from vectors import cut_over, literal, write

from pgvmig.demo import models
from pgvmig.errors import SpaceMismatchError
from pgvmig.reading import Searcher

pytestmark = [pytest.mark.models, pytest.mark.xdist_group("models")]

NAMES = {"v1": "paraphrase-MiniLM-L3-v2", "v2": "all-MiniLM-L6-v2"}
OTHER = {"v1": "v2", "v2": "v1"}
PASSAGES = [
    "Merge several sorted inputs into a single sorted output and return an iterator over the values.",
    "Return a list of the n largest elements of a data set.",
    "Open a file and return a stream that decodes its bytes to text.",
    "Create a temporary directory that is removed when the block ends.",
    "Send an e-mail message over an SMTP connection.",
    "Parse a command line and print help for its options.",
    "Compute the hash of a byte string with SHA-256.",
    "Compress data with gzip at a given level.",
    "Start a child process and wait for it to end.",
    "Lock that only one thread can hold at a time.",
    "Suspend a coroutine until a number of seconds has passed.",
    "Format a date and a time in a given time zone.",
    "Match a regular expression at the beginning of a string.",
    "Decode JSON text into lists, dictionaries, strings and numbers.",
    "Read rows of a CSV file as dictionaries.",
    "Choose a random element of a sequence.",
    "Return the greatest common divisor of two whole numbers.",
    "Walk a directory tree and yield the names of its files.",
    "Copy a file together with its permissions.",
    "Count how often each element occurs in an iterable.",
    "Quote a string so that a shell takes it as one word.",
    "Download the contents of a URL with HTTP.",
    "Listen on a TCP port for incoming connections.",
    "Wrap a long paragraph into lines of at most seventy columns.",
    "Compare two texts line by line and show the differences.",
    "Cache the results of a function by its arguments.",
    "Insert an item into a list in sorted order by bisection.",
    "Measure the time that small pieces of code take to run.",
    "Write messages of a program's progress to a log file.",
    "Store objects on disk under string keys.",
    "Query a relational database that lives in one file.",
    "Verify the certificate of a server before data is exchanged.",
    "Encode binary data as printable characters in base 64.",
    "Profile a program and list the functions that use the most time.",
    "Discover and run the unit tests of a project.",
    "Translate the messages of a program into another language.",
]
QUERIES = [
    "combine sorted iterables",
    "how do I hash bytes?",
    "run another program",
    "read JSON",
    "highest values of a list",
    "make a scratch folder",
    "remember what a function returned",
    "split text into short lines",
]


@dataclass
class Spaces:
    """Both models' vectors of the passages and queries: the copy that answers are compared with."""

    passages: dict[str, np.ndarray] = field(default_factory=dict)
    queries: dict[str, np.ndarray] = field(default_factory=dict)

    def ranking(self, version, query, limit=10):
        """Return the ids that exact search finds in a version's own space."""
        similarity = self.passages[version] @ self.queries[version][query]
        return [int(position) + 1 for position in np.argsort(-similarity)[:limit]]

    def of(self, row):
        """Return the version whose vector of that row this is. Fails for a vector that is nobody's."""
        vector = np.array(row["embedding"][1:-1].split(","), dtype=np.float32)
        (version,) = [name for name in NAMES if np.array_equal(self.passages[name][row["id"] - 1], vector)]
        return version

    def literal(self, version, query):
        """Return the query's vector in a version's space, as pgvector reads it."""
        return literal(self.queries[version][query])


@pytest.fixture(scope="module")
def spaces():
    found = Spaces()
    for version, name in NAMES.items():
        model = models.load(name, threads=2)
        assert model.dimensions == 384
        found.passages[version], found.queries[version] = model.embed(PASSAGES), model.embed(QUERIES)
    return found


@pytest.fixture
def connection(database):
    connection = database.connect()
    install(connection)
    connection.execute("CREATE TABLE documents (id bigint PRIMARY KEY, body text)")
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO documents VALUES (%s, %s)", enumerate(PASSAGES, 1))
    return connection


@pytest.fixture
def versions(database, connection, spaces):
    """Both versions, complete, with an index each that searches use; v1 is active."""
    found = {}
    for name, model in NAMES.items():
        found[name] = add_version(connection, "documents", name, {"model": model, "dimensions": 384})
        write(connection, found[name], dict(enumerate(spaces.passages[name], 1)))
        connection.execute(f"CREATE INDEX ON documents USING hnsw (embedding_{name} vector_cosine_ops)")
    cut_over(connection, found["v1"])
    for setting in ("enable_seqscan", "enable_sort"):
        connection.execute(f"SET {setting} = off")
        connection.execute(f"ALTER DATABASE {database.name} SET {setting} = off")
    return found


@pytest.fixture
def open_embedder(spaces):
    """Embedders that take queries from the copy, by the contract's model."""

    class FromTheCopy:
        def __init__(self, contract):
            (self.version,) = [version for version, name in NAMES.items() if name == contract.model]

        def embed_query(self, text):
            return spaces.queries[self.version][QUERIES.index(text)]

        def close(self):
            pass

    return FromTheCopy


GUARD = "embedding_space = %(version)s"
LOUD_GUARD = "pgvmig.require_space('documents', %(version)s)"


def search(connection, spaces, version, query, *, guard, view="documents_current", prepare=None):
    """Search with a query that was embedded for a version, as a service would that knows nothing of switches."""
    statement = f"SELECT id, embedding FROM {view} WHERE {guard} ORDER BY embedding <=> %(query)s::vector LIMIT 10"
    values = {"version": version, "query": spaces.literal(version, query)}
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement, values, prepare=prepare).fetchall()


def seen(spaces, rows):
    return {spaces.of(row) for row in rows}


def ids(rows):
    return [row["id"] for row in rows]


# Without the guard


def test_without_a_guard_the_ranking_is_silently_wrong(connection, versions, spaces):
    """What the guard is for: the very same statement, no error, the other model's vectors, another ranking."""
    wrong_first = 0
    for number in range(len(QUERIES)):
        assert ids(search(connection, spaces, "v1", number, guard="true")) == spaces.ranking("v1", number)
    cut_over(connection, versions["v2"])
    for number in range(len(QUERIES)):
        rows = search(connection, spaces, "v1", number, guard="true")
        assert len(rows) == 10
        assert seen(spaces, rows) == {"v2"}
        assert ids(rows) != spaces.ranking("v2", number)
        wrong_first += ids(rows)[0] != spaces.ranking("v2", number)[0]
    assert wrong_first > len(QUERIES) / 2


def test_these_searches_use_the_index(connection, versions, spaces):
    for active in ("v1", "v2"):
        cut_over(connection, versions[active])
        query = f"SELECT id FROM documents_current WHERE embedding_space = '{active}' ORDER BY embedding <=> %s::vector"
        plan = connection.execute("EXPLAIN " + query + " LIMIT 10", (spaces.literal(active, 0),)).fetchall()
        assert f"documents_embedding_{active}_idx" in str(plan)


# The guards, before and after


@pytest.mark.majors(18, 16)
@pytest.mark.parametrize("prepare", [None, True])
def test_guarded_queries_find_their_own_space_or_nothing(connection, versions, spaces, prepare):
    for active in ("v1", "v2", "v1", "v2"):
        cut_over(connection, versions[active])
        for number in range(len(QUERIES)):
            own = search(connection, spaces, active, number, guard=GUARD, prepare=prepare)
            assert ids(own) == spaces.ranking(active, number)
            assert seen(spaces, own) == {active}
            assert search(connection, spaces, OTHER[active], number, guard=GUARD, prepare=prepare) == []


@pytest.mark.majors(18, 16)
@pytest.mark.parametrize("prepare", [None, True])
def test_the_loud_guard_raises_instead(connection, versions, spaces, prepare):
    for active in ("v1", "v2", "v1", "v2"):
        cut_over(connection, versions[active])
        own = search(connection, spaces, active, 0, guard=LOUD_GUARD, prepare=prepare)
        assert ids(own) == spaces.ranking(active, 0)
        with pytest.raises(psycopg.Error, match=f"documents_current shows {active}, not {OTHER[active]}") as caught:
            search(connection, spaces, OTHER[active], 0, guard=LOUD_GUARD, prepare=prepare)
        assert caught.value.sqlstate == "PV001"


def test_loud_guard_of_no_version_is_no_guard_that_passes(connection, versions):
    with pytest.raises(psycopg.Error, match="documents_current shows v1, not <NULL>") as caught:
        connection.execute("SELECT pgvmig.require_space('documents', NULL)")
    assert caught.value.sqlstate == "PV001"


def test_a_versions_own_view_stays_with_its_space(connection, versions, spaces):
    for active in ("v1", "v2"):
        cut_over(connection, versions[active])
        for name in NAMES:
            rows = search(connection, spaces, name, 0, guard=GUARD, view=f"documents_{name}")
            assert ids(rows) == spaces.ranking(name, 0)
            assert search(connection, spaces, OTHER[name], 0, guard=GUARD, view=f"documents_{name}") == []


# During: readers with prepared statements while the versions switch there and back


class Readers:
    """Threads that search again and again until told to stop, and what became of each search."""

    def __init__(self, database, work, *, count=4):
        self.errors = []
        self.answers = []
        self._stop = threading.Event()
        self._began = threading.Barrier(count + 1)
        self._threads = [
            threading.Thread(target=self._run, args=(database.connect(prepare_threshold=0), work, number))
            for number in range(count)
        ]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        self._began.wait(30)
        return self

    def __exit__(self, *error):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, connection, work, number):
        self._began.wait(30)
        turn = number
        while not self._stop.is_set():
            turn += 1
            try:
                self.answers.append(work(connection, turn))
            except Exception as error:  # noqa: BLE001  # whatever it is, the test must hear of it
                self.errors.append(error)


def switch_there_and_back(connection, versions, readers, times=10):
    """Switch, and let some searches come through in between."""
    for number in range(times):
        cut_over(connection, versions[("v2", "v1")[number % 2]])
        enough = len(readers.answers) + 20
        while len(readers.answers) < enough and not readers.errors:
            time.sleep(0.002)


@pytest.mark.majors(18, 16)
def test_guarded_readers_while_versions_switch(database, connection, versions, spaces):
    def work(reader, turn):
        version = ("v1", "v2")[turn % 2]
        number = turn % len(QUERIES)
        return version, number, search(reader, spaces, version, number, guard=GUARD, prepare=True)

    with Readers(database, work) as readers:
        switch_there_and_back(connection, versions, readers)
    assert readers.errors == []
    for version, number, rows in readers.answers:
        assert seen(spaces, rows) <= {version}
        assert ids(rows) in ([], spaces.ranking(version, number))
    assert {(version, bool(rows)) for version, _, rows in readers.answers} == {
        (version, found) for version in NAMES for found in (True, False)
    }


@pytest.mark.majors(18, 16)
def test_loudly_guarded_readers_while_versions_switch(database, connection, versions, spaces):
    def work(reader, turn):
        version = ("v1", "v2")[turn % 2]
        number = turn % len(QUERIES)
        try:
            return version, number, search(reader, spaces, version, number, guard=LOUD_GUARD, prepare=True)
        except psycopg.Error as error:
            if error.sqlstate != "PV001":
                raise
            return version, number, None

    with Readers(database, work) as readers:
        switch_there_and_back(connection, versions, readers)
    assert readers.errors == []
    for version, number, rows in readers.answers:
        assert rows is None or (seen(spaces, rows) == {version} and ids(rows) == spaces.ranking(version, number))
    assert {(version, rows is not None) for version, _, rows in readers.answers} == {
        (version, found) for version in NAMES for found in (True, False)
    }


@pytest.mark.majors(18, 16)
def test_searcher_while_versions_switch(database, connection, versions, spaces, open_embedder):
    searchers = {}

    def work(reader, turn):
        searcher = searchers.setdefault(reader, Searcher(reader, "documents", open_embedder=open_embedder, remember=0))
        number = turn % len(QUERIES)
        return number, searcher.search(QUERIES[number], columns=["id", "embedding"])

    with Readers(database, work) as readers:
        switch_there_and_back(connection, versions, readers)
    assert readers.errors == []
    for number, result in readers.answers:
        assert seen(spaces, result.rows) == {result.version}
        assert result.model == NAMES[result.version]
        assert ids(result.rows) == spaces.ranking(result.version, number)
    assert {result.version for _, result in readers.answers} == set(NAMES)


# Under REPEATABLE READ the catalog's rows are of before the switch, the current view is of after it


@pytest.fixture
def old_snapshot(database, connection, versions):
    """A REPEATABLE READ transaction that began before the switch to v2."""
    reader = database.connect()
    reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    assert reader.execute("SELECT version FROM pgvmig.active_space('documents')").fetchone() == ("v1",)
    cut_over(connection, versions["v2"])
    return reader


@pytest.mark.majors(18, 16)
def test_active_space_under_an_old_snapshot_is_the_old_version(old_snapshot, spaces):
    version, view = old_snapshot.execute("SELECT version, view::text FROM pgvmig.active_space('documents')").fetchone()
    assert (version, view) == ("v1", "documents_v1")
    assert old_snapshot.execute("SELECT pgvmig.route('documents', 'k')").fetchone() == ("v1",)
    rows = search(old_snapshot, spaces, version, 0, guard="true", view=view)
    assert seen(spaces, rows) == {"v1"}
    assert ids(rows) == spaces.ranking("v1", 0)


@pytest.mark.majors(18, 16)
def test_the_guards_under_an_old_snapshot_ask_the_view(old_snapshot, spaces):
    # What the catalog says to it would let the wrong query pass and stop the right one.
    assert search(old_snapshot, spaces, "v1", 0, guard=GUARD) == []
    assert ids(search(old_snapshot, spaces, "v2", 0, guard=GUARD)) == spaces.ranking("v2", 0)
    assert ids(search(old_snapshot, spaces, "v2", 0, guard=LOUD_GUARD)) == spaces.ranking("v2", 0)
    with pytest.raises(psycopg.Error, match="documents_current shows v2, not v1") as caught:
        search(old_snapshot, spaces, "v1", 0, guard=LOUD_GUARD)
    assert caught.value.sqlstate == "PV001"


def test_the_loud_guard_under_an_old_snapshot_of_a_view_made_anew(database, connection, versions, spaces):
    reader = database.connect()
    reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    reader.execute("SELECT FROM pgvmig.version")
    connection.execute("SELECT pgvmig.roll_back('documents', 'v1')")
    cut_over(connection, versions["v2"])
    assert ids(search(reader, spaces, "v2", 0, guard=LOUD_GUARD)) == spaces.ranking("v2", 0)
    with pytest.raises(psycopg.Error, match="documents_current shows v2, not v1"):
        search(reader, spaces, "v1", 0, guard=LOUD_GUARD)


@pytest.mark.majors(18, 16)
def test_searcher_under_an_old_snapshot(old_snapshot, spaces, open_embedder):
    with Searcher(old_snapshot, "documents", open_embedder=open_embedder) as searcher:
        for number, query in enumerate(QUERIES):
            result = searcher.search(query, columns=["id", "embedding"])
            assert seen(spaces, result.rows) == {"v1"}
            assert ids(result.rows) == spaces.ranking("v1", number)
        old_snapshot.execute("COMMIT")
        assert searcher.search(QUERIES[0]).version == "v2"


def test_rows_of_an_old_snapshot_are_that_snapshots(connection, versions, spaces, old_snapshot):
    """The view is new, its rows are old: a vector that was written since is not seen, and nothing is mixed."""
    connection.execute("INSERT INTO documents VALUES (99, 'written since')")
    write(connection, versions["v2"], {99: spaces.queries["v2"][0]})
    assert 99 in ids(search(connection, spaces, "v2", 0, guard=GUARD))
    assert ids(search(old_snapshot, spaces, "v2", 0, guard=GUARD)) == spaces.ranking("v2", 0)


# A service without rights of its own


@pytest.fixture
def service(database, connection, versions):
    """A connection of a role that may read the table and its views, and nothing of pgvmig's but what everybody may."""
    name = sql.Identifier(f"{connection.info.dbname}_service")
    connection.execute(sql.SQL("CREATE ROLE {}").format(name))
    views = sql.SQL("GRANT SELECT ON documents, documents_v1, documents_v2, documents_current TO {}")
    connection.execute(views.format(name))
    reader = database.connect()
    reader.execute(sql.SQL("SET ROLE {}").format(name))
    yield reader
    reader.close()
    connection.execute(sql.SQL("DROP OWNED BY {}").format(name))
    connection.execute(sql.SQL("DROP ROLE {}").format(name))


@pytest.mark.majors(18, 16)
def test_an_ordinary_role_has_all_that_a_service_needs(service, connection, versions, spaces, open_embedder):
    with Searcher(service, "documents", open_embedder=open_embedder) as searcher:
        for active in ("v1", "v2"):
            cut_over(connection, versions[active])
            space = service.execute("SELECT version, model FROM pgvmig.active_space('documents')").fetchone()
            assert space == (active, NAMES[active])
            assert service.execute("SELECT pgvmig.route('documents', 'a key')").fetchone() == (active,)
            assert ids(search(service, spaces, active, 0, guard=LOUD_GUARD)) == spaces.ranking(active, 0)
            with pytest.raises(psycopg.Error, match="shows") as caught:
                search(service, spaces, OTHER[active], 0, guard=LOUD_GUARD)
            assert caught.value.sqlstate == "PV001"
            result = searcher.search(QUERIES[0], columns=["id", "embedding"])
            assert seen(spaces, result.rows) == {active}
            assert ids(result.rows) == spaces.ranking(active, 0)


def test_pv001_is_a_space_mismatch_in_python(connection, versions):
    from pgvmig.catalog.connection import translated

    with pytest.raises(SpaceMismatchError) as caught, translated():
        connection.execute("SELECT pgvmig.require_space('documents', 'v2')")
    assert str(caught.value) == (
        "public.documents_current shows v1, not v2. Vectors of two models are not comparable: the query would be "
        "ranked, and wrongly. "
        "Next: ask pgvmig.active_space('public.documents') again and embed the query with its model"
    )
