"""Fan-outs: branches side by side, each a walk of its own, and their joining."""
