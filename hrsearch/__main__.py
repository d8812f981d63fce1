"""`python -m hrsearch` is `hrsearch`."""

from hrsearch.cli import main

main()
