"""Owns the first moment of the command `fairlead`, before anything is imported that takes time."""

import sys

from edge.cli.entry import hold_commands, serve_plainly


def main() -> None:
    """Run `fairlead`, and exit."""
    hold_commands(sys.argv[1:])
    serve_plainly(sys.argv[1:])
    from fairlead.__main__ import main

    main(prog_name="fairlead")
