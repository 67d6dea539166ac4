"""What `pgvmig demo` is made of: a judged corpus, local models, their HTTP server, and the migration that it plays.

The corpus, models and server must not know the toolkit beyond its errors: tests and benchmarks use them too.
"""
