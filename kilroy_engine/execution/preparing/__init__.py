"""Everything that can refuse a run before a file is written, and the sources of the run's settings."""
