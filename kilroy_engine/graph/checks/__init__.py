"""The checks on a graph, by what they look at. Each rule is a function from a subject to its diagnostics."""
