"""The far side: targets, their pools and connections, their health."""
