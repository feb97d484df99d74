"""What a route is, its options, the table of them, and the store."""
