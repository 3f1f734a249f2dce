"""Search spaces and configs: one file grammar. Imports neither torch nor optuna."""

from schedsearch.space.document import Objective
from schedsearch.space.space import Space

__all__ = ["Objective", "Space"]
