"""Which deploy runs when, its steps with their undo, and the reconciler."""
