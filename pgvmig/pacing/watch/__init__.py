"""One file for each signal: its definition, and a pure judge of what was read. Listed in pgvmig/pacing/registry.py."""
