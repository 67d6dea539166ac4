"""Rollback triggers: declared beforehand, judged by what services report, acted on only when told so.

Must not know how a version is switched or routed, only whom to ask for it (pgvmig.switch, pgvmig.routing).
"""
