"""Entry point of the deployment "report": the pipeline's inputs are fields of its run form."""

from pathlib import Path

from kilroy_engine import pipeline_flow

report = pipeline_flow(Path(__file__).parent / "pipelines" / "report.dot")

__all__ = ["report"]
