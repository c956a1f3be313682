"""Fan-outs and fan-ins: branches side by side, each a walk of its own, and the joining of their work."""
