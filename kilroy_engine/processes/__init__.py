"""Running a command for a stage: its process, its environment, the verdict that it may leave in a file."""
