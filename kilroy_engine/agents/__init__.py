"""Who does an agent's work."""
