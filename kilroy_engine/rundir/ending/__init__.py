"""How a start begins and ends: which end wins, and the one place that writes the end."""
