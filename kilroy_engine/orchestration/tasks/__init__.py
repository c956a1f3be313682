"""Prefect as the engine's orchestrator: task runs of visits and branches, subflows, calls, concurrency slots."""
