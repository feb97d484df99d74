"""`python -m edge` is `fairlead edge`."""

import sys
from typing import Final

from edge.cli.main import Program

PROGRAM: Final = Program(guests={}, sidecars={})

if __name__ == "__main__":
    PROGRAM(["edge", *sys.argv[1:]], prog_name="fairlead")
