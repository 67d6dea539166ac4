"""The worker: claims rows with leases, has them embedded, writes where the text is still the same.

No transaction is open while a provider is asked. Must not know about Alembic, gates, the switch or the command line.
"""
