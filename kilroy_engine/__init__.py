"""Kilroy Engine: Attractor pipelines (Graphviz DOT) as Prefect flows."""

__version__ = "0.1.0"
