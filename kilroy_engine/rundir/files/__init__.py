"""Files of a run directory: where they are, how one is written whole, the records."""
