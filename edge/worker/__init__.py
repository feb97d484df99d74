"""One process's life: what serves, and how it learns of changed routes."""
