"""Carries out a run. Knows no orchestrator: what it needs of one is in ``ports``."""
