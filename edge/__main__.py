"""`python -m edge` is `fairlead edge`."""

from edge.cli.main import edge

edge(prog_name="python -m edge")
