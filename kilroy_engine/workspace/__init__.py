"""Where stages work: a git worktree or a plain folder."""
