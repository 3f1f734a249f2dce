"""Searches from Python, for scripts and notebooks: what the commands do, as objects."""
