"""What a backfill will cost in either layout, and which one to choose: for `pgvmig plan`.

Figures come from a sample of the table's real pages; the arithmetic is pure. Must not know about providers or workers.
"""
