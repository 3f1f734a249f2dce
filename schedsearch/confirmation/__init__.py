"""Do the winners hold? The best schedules and constants, in full, on seeds the search never met."""
