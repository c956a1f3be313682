"""The run directory: the file contract that Kilroy's tools read."""
