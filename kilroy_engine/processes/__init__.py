"""Running a command for a stage: its process, its environment, the status file that it may leave. And Graphviz."""
