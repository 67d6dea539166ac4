"""pgvmig: change embedding models in PostgreSQL/pgvector as a schema migration."""

__version__ = "0.1.0"

# Alembic loads its plugins, ours among them, while it is being imported itself: imported first, it is whole by the
# time that our modules need it.
import alembic as _alembic  # noqa: F401
