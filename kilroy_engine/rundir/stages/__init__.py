"""Stage directories, and the directories of branches, child pipelines and restarts."""
