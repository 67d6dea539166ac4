"""Alembic's environment. What pgvmig asks of yours are two arguments; `pgvmig scaffold` writes them."""

import os
import runpy
from logging.config import fileConfig
from pathlib import Path

from alembic import context
from sqlalchemy import create_engine, pool

config = context.config
if config.config_file_name is not None and config.attributes.get("configure_logger", True):
    fileConfig(config.config_file_name, disable_existing_loggers=False)

# An application imports its models; these are beside this file, wherever it is copied to.
MODELS = runpy.run_path(str(Path(__file__).with_name("models.py")))

OPTIONS = {
    "target_metadata": MODELS["Base"].metadata,
    # each revision in a transaction of its own: a gate that stops the last one must not undo the first
    "transaction_per_migration": True,
    # autogenerate compares the embeddings that the models declare
    "autogenerate_plugins": ["alembic.autogenerate.*", "pgvmig.*"],
}


def url() -> str:
    """Return the database's URL, for the psycopg driver."""
    given = config.attributes.get("url") or os.environ.get("PGVMIG_DSN") or os.environ.get("DATABASE_URL") or ""
    scheme, _, rest = given.partition("://")
    if scheme not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise SystemExit("Set DATABASE_URL to the database, such as postgresql://user@localhost/app")
    return f"postgresql+psycopg://{rest}"


def run_migrations_offline() -> None:
    """Write the SQL; no database is needed."""
    context.configure(dialect_name="postgresql", literal_binds=True, **OPTIONS)
    with context.begin_transaction():
        context.run_migrations()


def run_migrations_online() -> None:
    """Run on the database."""
    engine = create_engine(url(), poolclass=pool.NullPool)
    with engine.connect() as connection:
        context.configure(connection=connection, **OPTIONS)
        with context.begin_transaction():
            context.run_migrations()


if context.is_offline_mode():
    run_migrations_offline()
else:
    run_migrations_online()
