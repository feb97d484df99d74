"""`python -m edge` is `fairlead edge`."""

import sys

from edge.cli.entry import hold_commands, serve_plainly

if __name__ == "__main__":
    arguments = ["edge", *sys.argv[1:]]
    hold_commands(arguments)
    serve_plainly(arguments)
    from edge.cli.main import Program

    Program(guests={}, sidecars={})(arguments, prog_name="fairlead")
