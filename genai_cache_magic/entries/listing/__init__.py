"""Which entries there are: found, counted and compared without opening any."""
