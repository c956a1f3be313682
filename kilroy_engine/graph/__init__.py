"""DOT text to a checked graph. Pure: no I/O, no Prefect."""
