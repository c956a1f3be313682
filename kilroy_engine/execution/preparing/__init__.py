"""Everything that can refuse a run before anything is written, and where its settings come from."""
