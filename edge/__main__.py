"""`python -m edge` is `fairlead edge`."""

import sys

from edge.cli.main import main

main(["edge", *sys.argv[1:]], prog_name="fairlead")
