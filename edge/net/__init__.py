"""Sockets, and the transports of the loop."""
