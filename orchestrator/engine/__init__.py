"""The Docker Engine: what it is asked, and what it says."""
