"""Pure rules, a file for each feature of a route."""
