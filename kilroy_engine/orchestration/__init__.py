"""Pipelines as Prefect flows: with cli/, the only place that imports Prefect."""
