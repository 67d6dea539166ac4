"""Adoption from the command line: a column is looked at, its provider asked, what was found is kept, then it is taken.

Must not know about Alembic or the command line. Start reading in adopt.py; revisions adopt by pgvmig/adding.py alone.
"""
