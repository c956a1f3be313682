"""Workflow packages: what their ``workflow.toml`` says, and that it is kept to."""

from __future__ import annotations

from pathlib import Path

import pytest

from kilroy_engine.errors import InvalidInput, PackageSyntaxError, PipelineNotFound
from kilroy_engine.execution.preparing.package import keep_package, read_package
from kilroy_engine.execution.preparing.pipeline_file import read_pipeline
from kilroy_engine.execution.preparing.preparation import PreparedRun, RunParameters, prepare_run
from kilroy_engine.settings.options import Options

GRAPH = """digraph g {
  start [shape=Mdiamond]  done [shape=Msquare]
  a [prompt_file="prompts/ask.md"]
  start -> a
  a -> done [condition="outcome=success"]
}
"""
MANIFEST = """name = "reports"
description = "Writes reports."
version = "1.2"
outputs = ["report.md", "data.json"]

[[inputs]]
name = "title"
description = "what stands above it"
required = true

[[inputs]]
name = "depth"
default = 3

[[inputs]]
name = "draft"
default = true

[defaults.labels]
team = "blue"
kind = "report"

[metadata]
owner = "anybody"
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package with everything that one may hold."""
    folder = tmp_path / "reports"
    for name in ("scripts", "prompts"):
        (folder / name).mkdir(parents=True)
    (folder / "workflow.toml").write_text(MANIFEST)
    (folder / "graph.dot").write_text(GRAPH)
    (folder / "other.dot").write_text(GRAPH)
    (folder / "prompts" / "ask.md").write_text("Ask about $input.title, $input.depth deep.")
    (folder / "scripts" / "run.sh").write_text("#!/bin/sh\ntrue\n")
    return folder


def prepare(graph: str, base: Path, **given: object) -> PreparedRun:
    options = Options(workspace="plain", simulate=True)
    return prepare_run(RunParameters(graph, options=options, **given), environ={}, base=base)  # type: ignore[arg-type]


def test_a_package_brings_defaults_that_the_run_may_change(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs and labels given with the run win; prompt files count from the package; texts of every kind of default."""
    monkeypatch.chdir(package.parent)
    prepared = prepare("reports", package.parent, inputs={"title": "Tides", "draft": "no"}, labels={"kind": "study"})

    assert prepared.inputs == {"title": "Tides", "depth": "3", "draft": "no"}
    assert prepared.labels == {"team": "blue", "kind": "study"}
    assert prepared.graph.nodes["a"].prompt == "Ask about Tides, 3 deep."
    assert prepared.filename == "reports/graph.dot"
    assert prepared.graph_file == str(package / "graph.dot")
    assert [(known.name, known.default) for known in prepared.declared] == [("title", None), ("depth", "3"), ("draft", "true")]


def test_what_the_package_says_of_an_input_joins_what_the_graph_says(package: Path) -> None:
    """Types are the graph's, a default of the package comes first, and either of them can require an input."""
    declaration = 'inputs="depth, tone", input.depth.type=integer, input.depth.default=1, input.tone.required=false'
    (package / "graph.dot").write_text(GRAPH.replace("digraph g {", f"digraph g {{ graph [{declaration}]"))
    prepared = prepare("reports", package.parent, inputs={"title": "t", "draft": "no"})

    assert prepared.inputs == {"depth": "3", "tone": "", "title": "t", "draft": "no"}
    assert [known.name for known in prepared.declared] == ["depth", "tone", "title", "draft"]
    with pytest.raises(InvalidInput, match=r"input depth is 'deep': a whole number is expected"):
        prepare("reports", package.parent, inputs={"title": "t", "depth": "deep"})


def test_outputs_of_the_package_follow_those_of_the_graph(package: Path) -> None:
    """Each once."""
    (package / "graph.dot").write_text(GRAPH.replace("digraph g {", 'digraph g { graph [outputs="log.txt, data.json"]'))

    assert prepare("reports", package.parent, inputs={"title": "t"}).outputs == ("log.txt", "data.json", "report.md")


def test_a_required_input_refuses_the_run_with_its_description(package: Path) -> None:
    """Kilroy reads the word and starts all the same."""
    with pytest.raises(InvalidInput, match=r"missing required inputs: title \(what stands above it\), declared in .*toml"):
        prepare("reports", package.parent)


def test_the_file_of_a_package_is_no_package(package: Path) -> None:
    """Whoever names the DOT file gets the pipeline alone."""
    prepared = prepare("reports/graph.dot", package.parent)

    assert prepared.package is None
    assert prepared.inputs == {}


def test_a_folder_has_one_pipeline(tmp_path: Path) -> None:
    """``graph.dot``, or the only DOT file; nothing is guessed among several, and none is said to be missing."""
    folder = tmp_path / "p"
    folder.mkdir()
    with pytest.raises(PipelineNotFound, match=r"p is a directory without a pipeline; put graph\.dot there"):
        read_pipeline("p", base=tmp_path)
    (folder / "b.dot").write_text(GRAPH)
    assert read_pipeline("p", base=tmp_path) == (GRAPH, "p/b.dot")
    (folder / "a.dot").write_text("digraph a {}")
    with pytest.raises(PipelineNotFound, match=r"several pipelines \(a.dot, b.dot\)"):
        read_pipeline("p", base=tmp_path)
    (folder / "graph.dot").write_text(GRAPH)
    assert read_pipeline("p", base=tmp_path) == (GRAPH, "p/graph.dot")


def test_a_package_without_a_manifest_says_nothing(package: Path) -> None:
    """``workflow.toml`` may be missing; an unnamed pipeline has the folder's name then."""
    (package / "workflow.toml").unlink()
    (package / "graph.dot").write_text(GRAPH.replace("digraph g", "digraph"))
    prepared = prepare("reports", package.parent)

    assert (prepared.name, prepared.labels, prepared.outputs) == ("reports", {}, ())


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ('name = "a"\nversion = 1.2.3\n', 2, 14, "this is no TOML: expected newline or end of document"),
        ("name = release\n", 1, 8, "this is no TOML: invalid value"),
        ('name = "a"\noutputs = ["x"', 2, 15, "this is no TOML"),
        ("name = 3\n", 1, 1, "name: input should be a valid string"),
        ('outputs = "report.md"\n', 1, 1, "outputs: input should be a valid"),
        ('[[inputs]]\nname = "a"\n\n[[inputs]]\nname = "b"\n  required = "often"\n', 6, 3, "inputs.1.required: input"),
        ('[[inputs]]\nname = "a"\n\n[[inputs]]\ndescription = "b"\n', 4, 1, "inputs.1.name: field required"),
        ('[[inputs]]\nname = "a"\ndefault = [1]\n', 3, 1, "inputs.0.default: input should be a valid string"),
        ("[defaults.labels]\nteam = 7\n", 2, 1, "defaults.labels.team: input should be a valid string"),
    ],
)
def test_a_malformed_manifest_is_told_at_its_place(package: Path, text: str, line: int, column: int, message: str) -> None:
    """File, line, column, the line with a caret, and how to mend it."""
    (package / "workflow.toml").write_text(text)

    with pytest.raises(PackageSyntaxError) as refusal:
        read_package(package)

    error = refusal.value
    assert error.message.startswith(message)
    assert (error.line, error.column, error.filename) == (line, column, str(package / "workflow.toml"))
    assert error.excerpt.endswith("^")
    assert error.hint


def test_a_key_that_nothing_reads_is_warned_of(package: Path) -> None:
    """A slip must not pass in silence: the input is not required then."""
    (package / "workflow.toml").write_text('[[inputs]]\nname = "a"\nrequire = true\n[defaults]\ncolor = "red"\n')

    assert prepare("reports", package.parent).settings.warnings == (
        "workflow.toml: unknown key 'inputs[0].require' is ignored; did you mean 'required'?",
        "workflow.toml: unknown key 'defaults.color' is ignored; keys of your own belong in [metadata]",
    )


def test_what_a_later_start_needs_is_kept(package: Path, tmp_path: Path) -> None:
    """Scripts, prompts and manifest; what an earlier copy held besides is gone."""
    kept = tmp_path / "run" / "run.package"
    kept.mkdir(parents=True)
    (kept / "stale").touch()

    keep_package(read_package(package), kept)
    keep_package(read_package(kept), kept)

    files = sorted(str(path.relative_to(kept)) for path in kept.rglob("*") if path.is_file())
    assert files == ["prompts/ask.md", "scripts/run.sh", "workflow.toml"]


@pytest.mark.parametrize(
    ("name", "target"),
    [("scripts/x", "/etc/hostname"), ("scripts/x", "../../x"), ("prompts/x", "x"), ("scripts", "prompts")],
)
def test_a_link_that_leads_out_of_a_package_refuses_it(package: Path, name: str, target: str) -> None:
    """It would lead nowhere in the copy that the stages get. A link inside does not, and is copied as it is."""
    (package / "scripts" / "same.sh").symlink_to("run.sh")
    read_package(package)
    if name == "scripts":
        (package / "scripts").rename(package / "moved")
    (package / name).symlink_to(target)
    with pytest.raises(InvalidInput, match=f"{package / name} is a link to {target}"):
        read_package(package)


def test_a_package_is_kept_with_links_inside_it_as_they_are(package: Path, tmp_path: Path) -> None:
    """So the copy holds everything that it leads to."""
    (package / "scripts" / "same.sh").symlink_to("run.sh")
    keep_package(read_package(package), tmp_path / "kept")
    assert (tmp_path / "kept" / "scripts" / "same.sh").readlink() == Path("run.sh")
    assert (tmp_path / "kept" / "scripts" / "same.sh").read_text() == "#!/bin/sh\ntrue\n"
