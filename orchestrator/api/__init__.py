"""The HTTP API: endpoints, each declared beside its handler."""
