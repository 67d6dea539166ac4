"""pgvmig: change embedding models in PostgreSQL/pgvector as a schema migration."""

__version__ = "0.1.0"
