"""The processes of an edge, and what is shown and changed of them."""
