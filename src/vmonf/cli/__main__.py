"""`python -m vmonf.cli` is `vmonf`."""

from vmonf.cli import main

main()
