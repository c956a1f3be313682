"""Runs pipelines as Prefect flows: implements the protocols of ``execution.ports`` with Prefect."""
