"""The edge: a reverse proxy that serves by Host from a route table in SQLite."""
