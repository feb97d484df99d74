"""The command line `fairlead`."""
