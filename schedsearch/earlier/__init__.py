"""Beginning a study from earlier ones."""

from schedsearch.earlier.beginning import Beginning, begin_from, read_beginning, read_from

__all__ = ["Beginning", "begin_from", "read_beginning", "read_from"]
