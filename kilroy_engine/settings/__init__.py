"""What a run can be told: the one table of settings, and everything that follows from it."""
