"""Pure functions over bytes: heads, bodies, frames."""
