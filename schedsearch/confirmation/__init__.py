"""Confirmation: the best schedules against the best constants, on fresh seeds, in pairs."""
