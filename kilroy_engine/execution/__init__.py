"""Carries out a run. Knows no orchestrator: ``ports`` says what an orchestrator must do."""
