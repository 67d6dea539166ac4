"""Measurements of pgvmig against PostgreSQL itself and against its peers: `make bench`, `make bench-peers`.

One file a measurement; each exports MEASUREMENT and is listed in bench/__main__.py. Not shipped in the wheel.
"""
