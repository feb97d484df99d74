"""The deploy sidecar's package. What it may import from `edge` is a contract in pyproject.toml."""
