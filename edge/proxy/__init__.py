"""A request between two sockets."""
