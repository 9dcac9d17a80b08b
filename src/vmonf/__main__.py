"""Run the command `vmonf` as `python -m vmonf`, for example under torchrun."""

from vmonf.cli import main

main()
