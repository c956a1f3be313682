"""Everything that can refuse a run before anything is written, and its settings."""
