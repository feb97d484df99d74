"""Who may, what may be a name, and what is never shown."""
