"""Child pipelines: the child's run, and the node that watches the child."""
