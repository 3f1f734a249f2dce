"""Explanation: what of a plan matters, by variants of it on fresh seeds, in pairs with it."""
