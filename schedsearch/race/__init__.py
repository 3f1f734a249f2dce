"""The race: further seeds for the best plans of a search, in rounds of successive halving."""

from schedsearch.race.race import Race, make_race

__all__ = ["Race", "make_race"]
