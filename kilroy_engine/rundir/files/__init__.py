"""The files of a run directory: their paths, how the engine reads and writes them, and the JSON records."""
