"""Is the new version as good as the old one? Judged queries through both versions' views, metrics, and a verdict.

Start reading in comparing.py. Must not know about the command line or about switching; it writes nothing but what it
found (store.py).
"""
