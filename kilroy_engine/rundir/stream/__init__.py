"""``progress.ndjson``: appending to it, reading it, and what it says of a run."""
