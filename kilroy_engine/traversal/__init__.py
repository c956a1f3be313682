"""Graph and results to what happens next. Pure: no I/O, no Prefect."""
