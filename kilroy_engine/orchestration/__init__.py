"""Pipelines as Prefect flows: implements the ports of ``execution`` with Prefect."""
