"""What commands show to people: events, diagnostics, the live board of a run, the end of a run."""
