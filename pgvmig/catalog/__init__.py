"""Read and write the control schema `pgvmig`. What the layers above know of each other goes through here.

Must not know about embedders, pacing, Alembic or the command line.
"""
