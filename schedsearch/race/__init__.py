"""The race: further seeds for the best plans of a search, in rounds of successive halving."""
