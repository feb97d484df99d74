"""What a setting is, how values are written, and the list of the settings of the edge."""
