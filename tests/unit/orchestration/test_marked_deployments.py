"""The project's own deployments carry the mark of our flow runs."""

from __future__ import annotations

from pathlib import Path

import yaml

from kilroy_engine.orchestration.mark import MARK

ROOT = Path(__file__).parents[3]


def test_deployments_of_pipelines_carry_the_mark_and_the_reconcilers_does_not() -> None:
    """A flow run that is canceled before its body begins has no other mark than its deployment's. A reconciler is no run."""
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    marked = {deployment["name"]: MARK in deployment["tags"] for deployment in deployments}
    assert marked.pop("reconcile") is False
    assert marked
    assert all(marked.values())
