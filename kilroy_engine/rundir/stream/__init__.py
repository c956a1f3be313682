"""``progress.ndjson``: appending events, reading events, and what the events say of a run."""
