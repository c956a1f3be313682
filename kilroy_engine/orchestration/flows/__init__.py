"""The flows that people deploy and start."""
