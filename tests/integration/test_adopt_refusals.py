"""What adoption refuses, and that the table is then as it was."""

import pytest
from lifecycle import CONTRACT, add_version, adopt_version, find, install

from pgvmig import adding, errors, switch
from pgvmig.address import address
from pgvmig.runner import ConnectionRunner

pytestmark = pytest.mark.majors(18, 16)

V1, V2 = address("documents", "v1"), address("documents", "v2")
A = "[1,0,0,0,0,0,0,0]"


@pytest.fixture
def connection(database):
    connection = database.connect()
    install(connection)
    connection.execute("CREATE TABLE documents (id int PRIMARY KEY, body text, embedding vector(8))")
    connection.execute(f"INSERT INTO documents VALUES (1, 'one', '{A}'), (2, 'two', NULL)")
    return connection


@pytest.fixture
def run(connection):
    return ConnectionRunner(connection)


@pytest.fixture
def v1(connection):
    return adopt_version(connection, "documents", "v1", "embedding")


def rows_on_disk(connection):
    return connection.execute("SELECT array_agg((ctid, xmin, xmax, id)::text ORDER BY id) FROM documents").fetchone()


SPACE = (
    "The vectors there are of another space than the contract's. "
    "Next: give the contract of the model that really wrote them"
)


@pytest.mark.parametrize(
    ("column", "contract", "message"),
    [
        ("embedding", {"dimensions": 9}, f"documents.embedding is vector(8), the contract says vector(9). {SPACE}"),
        (
            "embedding",
            {"vector_type": "halfvec"},
            f"documents.embedding is vector(8), the contract says halfvec(8). {SPACE}",
        ),
        ("body", {}, f"documents.body is text, the contract says vector(8). {SPACE}"),
        ("vec", {}, "documents has no column vec. Next: check column="),
    ],
)
def test_a_column_that_is_not_what_the_contract_says_is_refused(connection, column, contract, message):
    before = rows_on_disk(connection)
    with pytest.raises((errors.ContractError, errors.NotFoundError)) as error:
        adopt_version(connection, "documents", "v1", column, contract)
    assert str(error.value) == message
    assert rows_on_disk(connection) == before
    assert connection.execute("SELECT count(*) FROM pgvmig.version").fetchone() == (0,)


def test_a_column_without_dimensions_is_looked_into(connection, run):
    connection.execute("ALTER TABLE documents ADD COLUMN free vector")
    connection.execute(f"UPDATE documents SET free = '{A}' WHERE id = 2")
    where = address("documents", "v1", slot="free")
    with pytest.raises(errors.ContractError) as error:
        adding.adopt(run, where, "free", {**CONTRACT, "dimensions": 4})
    assert str(error.value) == f"documents.free holds a vector of 8 dimensions, the contract says 4. {SPACE}"
    assert adding.adopt(run, where, "free", CONTRACT)


def test_a_worker_may_take_over_at_once(connection, run):
    adding.adopt(run, V1, "embedding", CONTRACT, writer="worker")
    assert find(connection, V1).writer == "worker"
    with pytest.raises(errors.UsageError) as error:
        adding.adopt(run, V1, "embedding", CONTRACT, writer="nobody")
    assert str(error.value) == "writer is 'nobody'. Next: use application or worker"


def test_adopting_again_does_nothing_and_another_contract_is_refused(connection, run, v1):
    assert adding.adopt(run, V1, "embedding", CONTRACT) is False
    with pytest.raises(errors.ConflictError, match="documents v1 exists with another contract"):
        adding.adopt(run, V1, "embedding", {**CONTRACT, "model": "other"})


def test_a_column_that_was_not_adopted_is_in_the_way(connection):
    with pytest.raises(errors.ConflictError) as error:
        add_version(connection, "documents", "v1")
    assert str(error.value) == (
        "documents has a column embedding, which is what the views call a column of slot embedding. "
        "One of the two would be hidden. "
        "Next: name another slot with slot=, or take the vectors there with op.adopt_embedding()"
    )


def test_an_adopted_version_has_none_before_it(run, v1):
    with pytest.raises(errors.IllegalTransitionError) as error:
        switch.roll_back(run, V1)
    assert str(error.value) == (
        "documents v1 was adopted as it was: there is no version before it. "
        "Next: op.release_embedding takes pgvmig off the table again"
    )


def test_releasing_is_refused_while_there_are_others_or_it_is_not_adopted(connection, run, v1):
    add_version(connection, "documents", "v2")
    others = "documents also has v2. Next: downgrade the revisions that added it first"
    made = "documents v2 was not adopted, pgvmig made its columns. "
    downgrade = "Next: op.drop_embedding is the downgrade of op.add_embedding"
    for where, message in ((V1, others), (V2, made + downgrade)):
        with pytest.raises(errors.IllegalTransitionError) as error:
            adding.release(run, where)
        assert str(error.value) == message
