"""Everything that ends a run: the state hooks, the exit of a process, the reconciler, a stop, the next start."""
