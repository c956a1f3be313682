"""What a person sees: events, diagnostics, the board of a run, its end."""
