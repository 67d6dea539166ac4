"""The servers that demo and tests run on: that they are what they should be, and gone afterwards."""

import pytest


@pytest.mark.majors(18, 16)
def test_database_is_fresh_and_has_pgvector(database, pg_major):
    connection = database.connect()
    assert connection.info.server_version // 10_000 == pg_major == database.major
    assert connection.execute("SELECT '[1,2]'::vector <-> '[1,3]'").fetchone() == (1.0,)
