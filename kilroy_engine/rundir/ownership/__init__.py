"""Who owns a run, and whether the owner lives."""
