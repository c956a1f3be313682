"""Child pipelines: the child at work, and the node that watches it."""
