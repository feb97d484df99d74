"""The deploy sidecar's package. It imports from `edge` only the route store and its types."""
