"""A provider that is slow, down, limits the rate and lies, while a real worker writes what it says."""

import random
from contextlib import suppress

import pytest

from pgvmig.demo.faults import Fault
from pgvmig.errors import ProviderError

ROWS = 400
BATCH = 16
LIES = ("short", "extra", "shuffled", "duplicate_index", "dimensions", "nan", "infinity", "zero", "norm", "garbage")
TROUBLE = (
    Fault(kind="drop"),
    Fault(kind="cut"),
    Fault(kind="latency", seconds=0.3),
    Fault(kind="status", status=429, headers={"retry-after": "0.1"}),
    Fault(kind="status", status=503),
)


@pytest.fixture
def v2(site):
    site.documents(ROWS)
    return site.version()


@pytest.mark.parametrize("lie", LIES)
def test_no_lie_is_written(site, v2, lie):
    site.server.faults.extend([Fault(kind=lie), Fault(kind=lie, containing="passage 200 ", every=True)])
    assert site.run(batch_size=BATCH).why == "done"
    assert not site.server.faults
    assert site.problems(v2) == []


@pytest.mark.parametrize("lie", ["nan", "dimensions"])
def test_a_lie_about_one_text_is_that_rows_trouble_alone(site, v2, lie):
    site.server.faults.append(Fault(kind=lie, containing="passage 200 ", times=None, every=True))
    result = site.run(batch_size=BATCH)
    assert (result.why, result.versions["documents v2"].failed) == ("done", 1)
    assert site.embedded() == ROWS - 1
    assert site.problems(v2) == []
    assert site.execute("SELECT key_id, kind FROM pgvmig.documents_v2_outcome").fetchall() == [(200, "failed")]


@pytest.mark.layouts
def test_everything_at_once(site, v2):
    generator = random.Random(11)
    trouble = [*TROUBLE, *(Fault(kind=lie) for lie in LIES)] * 2
    generator.shuffle(trouble)
    site.server.faults.extend(trouble)
    while site.server.faults:
        # A batch that is lied about again and again ends the run; cron starts the next one.
        with suppress(ProviderError):
            site.run(batch_size=BATCH)
    assert site.run().why == "done"
    assert site.problems(v2) == []
    assert site.value("SELECT sum(rows_written) FROM pgvmig.backfill_run") == ROWS
