"""pytest-alembic's built-in tests on migrations/: one head, up, the models' DDL, every revision down and up again."""

import os
from unittest import mock

import pytest
import sqlalchemy
from alembic import command
from alembic.config import Config
from migrating import ROOT, Project
from pytest_alembic.plugin.fixtures import alembic_runner  # noqa: F401  # what the tests are given
from pytest_alembic.tests import (  # noqa: F401  # collected here
    test_model_definitions_match_ddl,
    test_single_head_revision,
    test_up_down_consistency,
    test_upgrade,
)

pytestmark = pytest.mark.bare


@pytest.fixture
def alembic_config():
    return Config(ROOT / "alembic.ini", attributes={"configure_logger": False})


@pytest.fixture
def alembic_engine(database):
    with mock.patch.dict(os.environ, {"DATABASE_URL": database.url}):
        os.environ.pop("PGVMIG_DSN", None)
        yield sqlalchemy.create_engine(database.url)


def test_alembic_check(database, alembic_config):
    """It tells when the models and the database are not the same."""
    Project(database.url).upgrade("head")
    alembic_config.attributes["url"] = database.url
    command.check(alembic_config)
    database.connect().execute("ALTER TABLE documents ADD COLUMN another int")
    with pytest.raises(Exception, match=r"New upgrade operations detected: .*remove_column.*another"):
        command.check(alembic_config)
