"""Where a version's vectors live: `column` beside the row. One interface for every layout.

Must not know about providers, pacing or Alembic.
"""
