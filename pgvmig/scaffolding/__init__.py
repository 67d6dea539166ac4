"""What `pgvmig scaffold` does to a user's Alembic project: its env.py, and revisions on two lines.

Knows Alembic's script directory and the catalog; runs no revision and changes no database.
"""
