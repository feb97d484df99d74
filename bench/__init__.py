"""Measures the edge against nginx, HAProxy and Caddy on pinned cores: `python -m bench`."""
