"""Reads DOT text into a graph, transforms the graph and checks it. Pure: no I/O, no Prefect."""
