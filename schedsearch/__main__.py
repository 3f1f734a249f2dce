"""`python -m schedsearch` is the command line."""

from schedsearch.cli import main

main()
