"""Other tools that fill a table with embeddings, run as their documentation says, each in an environment of its own.

Must not be imported by the measurements of pgvmig itself: `make bench` needs no network.
"""
