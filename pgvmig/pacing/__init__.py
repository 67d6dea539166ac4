"""When the worker may write: signals that the cluster gives, and waiting until all of them allow it.

Fails closed: whatever is not known to be well stops the worker. Must not know what is written, or for which version.
"""
