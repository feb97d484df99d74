"""What is installed as `fairlead`: the edge, and what runs beside it."""
