"""Run the command `vmonf` as `python -m vmonf.cli`."""

from vmonf.cli import main

main()
