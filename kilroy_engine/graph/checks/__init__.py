"""The checks on a graph, grouped by topic. Each rule is a function from a ``Subject`` to diagnostics."""
