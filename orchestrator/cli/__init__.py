"""The commands that the orchestrator adds to `fairlead`."""
