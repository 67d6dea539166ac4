"""`python -m pgvmig`: the command line where the `pgvmig` script is not on the path."""

from pgvmig.cli import main

main()
