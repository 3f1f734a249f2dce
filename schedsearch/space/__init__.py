"""Spaces and configs: one grammar. Never imports torch, and draws from anything that suggests."""

from schedsearch.space.document import Objective
from schedsearch.space.space import Space

__all__ = ["Objective", "Space"]
