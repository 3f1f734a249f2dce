"""Beginning a study from earlier ones."""

from schedsearch.earlier.beginning import Beginning, begin_from, open_sources, read_beginning

__all__ = ["Beginning", "begin_from", "open_sources", "read_beginning"]
