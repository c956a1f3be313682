"""The settings of a run: one table, and everything that follows from the table."""
