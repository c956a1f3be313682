"""What refuses a run before it starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kilroy_engine.errors import InvalidInput, InvalidPipeline, KilroyError, PipelineNotFound, WorkspaceError
from kilroy_engine.execution.preparing.pipeline_file import read_prompt
from kilroy_engine.execution.preparing.preparation import PreparedRun, RunParameters, prepare_run
from kilroy_engine.settings.options import Options

PLAIN = Options(workspace="plain")
MINIMAL = "digraph min { start [shape=Mdiamond] done [shape=Msquare] start -> done }"


def prepare(graph: str, base: Path, *, options: Options = PLAIN, repo: str = "") -> PreparedRun:
    return prepare_run(RunParameters(graph, repo=repo, options=options), environ={}, base=base)


def test_a_path_and_dot_text_are_told_apart(tmp_path: Path) -> None:
    """A text with a brace is DOT; anything else is a path, relative to the folder."""
    (tmp_path / "min.dot").write_text(MINIMAL, encoding="utf-8")

    assert prepare(MINIMAL, tmp_path).name == "min"
    assert prepare("min.dot", tmp_path).filename == "min.dot"


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        ("absent.dot", "does not exist"),
        ("folder", "is a directory"),
        ("binary.dot", "is not UTF-8 text"),
        ("", "no pipeline given"),
    ],
)
def test_a_file_that_is_no_pipeline_is_refused(tmp_path: Path, graph: str, message: str) -> None:
    """Missing, a directory, binary, nothing at all: one message that says which."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "binary.dot").write_bytes(b"digraph \xff\xfe")

    with pytest.raises(PipelineNotFound, match=message):
        prepare(graph, tmp_path)


def test_a_prompt_file_is_read_beside_the_pipeline(tmp_path: Path) -> None:
    """``prompt_file`` counts from the pipeline's folder (Kilroy), not from the current one."""
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "plan.md").write_text("Plan $goal.", encoding="utf-8")
    (tmp_path / "pipelines" / "p.dot").write_text(
        'digraph g { graph [goal="it"] start [shape=Mdiamond] done [shape=Msquare] a [prompt_file="plan.md"] '
        'start -> a  a -> done [condition="outcome=success"] }',
        encoding="utf-8",
    )

    prepared = prepare("pipelines/p.dot", tmp_path, options=Options(workspace="plain", simulate=True))

    assert prepared.graph.nodes["a"].prompt == "Plan it."


def test_an_invalid_pipeline_is_refused_with_all_its_diagnostics(tmp_path: Path) -> None:
    """Errors stop the run, and the warnings come along."""
    with pytest.raises(InvalidPipeline) as refusal:
        prepare("digraph g { a [shape=parallelogram] }", tmp_path)

    rules = {diagnostic.rule for diagnostic in refusal.value.diagnostics}
    assert {"start_node", "terminal_node", "tool_command_required"} <= rules


def test_a_human_gate_is_never_approved_in_silence(tmp_path: Path) -> None:
    """A gate needs someone to answer: without --human auto-approve the run is refused, with the flag to give."""
    graph = "digraph g { start [shape=Mdiamond] done [shape=Msquare] ok [shape=hexagon] start -> ok -> done }"

    with pytest.raises(InvalidInput, match="human gate and nobody is there to answer it; give --human auto-approve"):
        prepare(graph, tmp_path)

    assert prepare(graph, tmp_path, options=Options(workspace="plain", human="auto-approve")).settings.human == "auto-approve"


def test_an_agent_node_without_an_agent_is_refused(tmp_path: Path) -> None:
    """No agent is configured: never a silent simulation."""
    graph = 'digraph g { start [shape=Mdiamond] done [shape=Msquare] a [prompt="do"] start -> a -> done }'

    with pytest.raises(InvalidInput, match="is an agent node and no agent is configured"):
        prepare(graph, tmp_path)
    with pytest.raises(InvalidInput, match='there is no agent "claud"'):
        prepare(graph, tmp_path, options=Options(workspace="plain", agent="claud"))

    simulated = prepare(graph, tmp_path, options=Options(workspace="plain", agent="simulate"))
    assert simulated.agents.choice(simulated.graph.nodes["a"]).agent == "simulate"


@pytest.mark.parametrize(
    ("options", "repo", "error", "message"),
    [
        (Options(workdir="."), "somewhere", InvalidInput, "give one"),
        (Options(workspace="plain"), "somewhere", InvalidInput, "a plain run has no repository"),
        (Options(workspace="git"), "", WorkspaceError, "is not in a git repository"),
        (Options(workdir="absent"), "", WorkspaceError, "is not a folder"),
    ],
)
def test_contradicting_places_of_work_are_refused(
    tmp_path: Path, options: Options, repo: str, error: type[KilroyError], message: str
) -> None:
    """Repository or folder, and it must be there."""
    with pytest.raises(error, match=message):
        prepare(MINIMAL, tmp_path, options=options, repo=repo)


def test_nothing_is_written_by_preparing(tmp_path: Path) -> None:
    """A run that is only prepared leaves no trace."""
    prepare(MINIMAL, tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_a_node_of_an_unknown_type_runs_as_its_shape_says(tmp_path: Path) -> None:
    """Nobody serves the type: the shape decides (Spec 4.2), and a warning says so."""
    graph = (
        "digraph g { start [shape=Mdiamond] done [shape=Msquare] "
        'a [type="shell.run", shape=parallelogram, tool_command="true"] '
        'start -> a  a -> done [condition="outcome=success"] }'
    )

    prepared = prepare(graph, tmp_path)

    assert prepared.graph.nodes["a"].type == "tool"
    assert "type_known" in {diagnostic.rule for diagnostic in prepared.diagnostics}


@pytest.mark.parametrize("kind", ["link out", "above", "absolute", "pipe"])
def test_a_prompt_file_lies_with_the_pipeline(kind: str, tmp_path: Path) -> None:
    """What leads out of the pipeline's folder, by name or by a link, is no prompt, and neither is what is no file."""
    folder = tmp_path / "pipelines"
    folder.mkdir()
    (tmp_path / "secret").write_text("key")
    name = {"above": "../secret", "absolute": str(tmp_path / "secret")}.get(kind, "plan.md")
    if kind == "link out":
        (folder / name).symlink_to(tmp_path / "secret")
    if kind == "pipe":
        os.mkfifo(folder / name)
    with pytest.raises((OSError, ValueError), match="named pipe" if kind == "pipe" else "leads out of"):
        read_prompt(folder, name)


def test_a_link_to_a_prompt_beside_the_pipeline_is_followed(tmp_path: Path) -> None:
    """Several nodes may share a text."""
    (tmp_path / "real.md").write_text("Plan it.")
    (tmp_path / "plan.md").symlink_to("real.md")
    assert read_prompt(tmp_path, "plan.md") == "Plan it."
