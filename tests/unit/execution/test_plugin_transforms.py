"""Transforms of plug-ins: called once for a run, on the graph that is checked and that runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from in_process import InProcess, opened, run_pipeline

from kilroy_engine.execution.preparing.preparation import RunParameters
from kilroy_engine.plugins import plugins
from kilroy_engine.settings.options import Options
from kilroy_engine.traversal.outcome import FinalStatus

MODULE = """
from dataclasses import replace
from pathlib import Path

SEEN = Path(__file__).with_name("seen")

def mark(graph):
    told = " ".join(node.prompt for node in graph.nodes.values() if node.prompt)
    with SEEN.open("a") as seen:
        seen.write(f"{graph.name}: {told}\\n")
    nodes = dict(graph.nodes)
    for node in graph.nodes.values():
        if "prompt" in node.attributes:
            prompt = node.attributes["prompt"]
            marked = replace(prompt, value=prompt.value + " $base_sha, marked")
            nodes[node.id] = replace(node, attributes={**node.attributes, "prompt": marked})
    return replace(graph, nodes=nodes)
"""
FLAT = 'digraph flat { s [shape=Mdiamond] x [shape=Msquare] a [shape=box, prompt="since $base_sha"] s -> a -> x }'
CHILD = 'digraph child { s [shape=Mdiamond] x [shape=Msquare] c [shape=box, prompt="in $base_sha"] s -> c -> x }'
PARENT = """digraph parent { s [shape=Mdiamond] x [shape=Msquare]
a [shape=parallelogram, tool_command="echo a > a.txt"] b [shape=folder, dot_file="child.dot"] s -> a -> b -> x }"""


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file that gets a line for each call of an installed transform: the graph's name and its prompts."""
    site = tmp_path / "site"
    info = site / "acme_marks-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-marks\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[kilroy_engine.transforms]\nmark = acme_marks:mark\n")
    (site / "acme_marks.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "acme_marks", raising=False)
    plugins.cache_clear()
    yield site / "seen"
    plugins.cache_clear()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository with one commit."""
    folder = tmp_path / "repo"
    folder.mkdir()
    git(folder, "init", "--quiet")
    commit(folder, "first")
    return folder


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.invalid"]
    return subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def commit(folder: Path, name: str) -> str:
    (folder / name).write_text(name)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", name)
    return git(folder, "rev-parse", "HEAD")


def options(tmp_path: Path) -> Options:
    return Options(logs_root=str(tmp_path / "run"), agent="simulate")


def test_a_transform_is_called_once_for_a_run(seen: Path, repo: Path, tmp_path: Path) -> None:
    """It gets the graph with all variables replaced, ``$base_sha`` too; what it writes itself is not looked at again."""
    sha = git(repo, "rev-parse", "HEAD")

    final = run_pipeline(RunParameters(FLAT, repo=str(repo), options=options(tmp_path)))

    assert final.status is FinalStatus.SUCCESS
    assert seen.read_text() == f"flat: since {sha}\n"
    assert f"since {sha} $base_sha, marked" in (tmp_path / "run" / "a" / "prompt.md").read_text()


def test_it_is_called_for_a_child_pipeline_when_that_is_checked_and_once_when_it_begins(
    seen: Path, repo: Path, tmp_path: Path
) -> None:
    """The file of a child may be another one by then, and the commit that the child begins at is the run's latest."""
    (repo / "parent.dot").write_text(PARENT)
    (repo / "child.dot").write_text(CHILD)
    commit(repo, "second")

    final = run_pipeline(RunParameters(str(repo / "parent.dot"), repo=str(repo), options=options(tmp_path)))

    assert final.status is FinalStatus.SUCCESS
    parent, checked, begun = seen.read_text().splitlines()
    assert (parent, checked) == ("parent: ", "child: in $base_sha")
    before = git(repo, "log", "--all", "--format=%H", "--fixed-strings", "--grep", "): a (success)")
    assert begun == f"child: in {before}"


def test_a_run_begins_at_the_commit_that_it_was_prepared_for(repo: Path, tmp_path: Path) -> None:
    """Somebody may commit between the check and the beginning: what was checked names the earlier commit."""
    sha = git(repo, "rev-parse", "HEAD")

    class Late(InProcess):
        def check(self, prepared: object) -> None:
            commit(repo, "late")

    found = opened(RunParameters(FLAT, repo=str(repo), options=options(tmp_path)), Late(), base=tmp_path)
    try:
        assert git(repo, "rev-parse", "HEAD") != sha
        assert found.lane.workspace.base_sha == found.lane.workspace.head() == found.state.context["base_sha"] == sha
        assert found.lane.graph.nodes["a"].prompt == f"since {sha}"
    finally:
        found.run.close()
