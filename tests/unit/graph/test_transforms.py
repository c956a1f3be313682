"""Variables, prompt files and the order of transforms."""

from __future__ import annotations

import pytest

from kilroy_engine.graph.checks.validation import validate
from kilroy_engine.graph.diagnostics import Severity
from kilroy_engine.graph.dot.parse import parse_dot
from kilroy_engine.graph.transforms import expand_variables, prepare

INPUTS = {"topic": "bees", "spec.md": "the spec", "spec": "short", "a-b": "dash"}


@pytest.mark.parametrize(
    ("prompt", "expanded"),
    [
        ("Do $goal.", "Do win."),
        ("$goal$goal", "winwin"),
        ("$$goal costs $$5", "$goal costs $5"),
        ("on $input.topic, now", "on bees, now"),
        ("read $input.spec.md or $input.spec.txt", "read the spec or short.txt"),
        ("$input.a-b and $input.topic-x", "dash and bees-x"),
        ("port to $target", "port to Swift"),
        ("$goals $input.other $HOME ${goal} $(ls) $1", "$goals $input.other $HOME ${goal} $(ls) $1"),
        ("$rankdir $label", "LR $label"),
        ("no dollars", "no dollars"),
    ],
)
def test_variables_are_replaced_in_prompts_and_labels(prompt: str, expanded: str):
    """Known names as whole words, ``$$`` for a dollar; the rest stays. Attributes that the engine reads are no variables."""
    graph = parse_dot(f'digraph G {{ goal=win target=Swift rankdir=LR label=x a [prompt="{prompt}" label="{prompt}"] }}')
    node = prepare(graph, inputs=INPUTS).nodes["a"]
    assert (node.prompt, node.label) == (expanded, expanded)


def test_a_replacement_is_not_replaced_again():
    """A goal that talks of $input.topic stays as its author wrote it."""
    graph = prepare(parse_dot('digraph G { goal="say $input.topic $$" a [prompt="$goal"] }'), inputs=INPUTS)
    assert graph.nodes["a"].prompt == "say $input.topic $$"


def test_tool_commands_are_never_rewritten():
    """A goal must not become code: the value is in the environment, and a warning says under which name."""
    graph = prepare(
        parse_dot("""digraph G { goal="; rm -rf" a [shape=parallelogram tool_command="echo $goal $$ '$input.my-key'"]
                     b [shape=parallelogram tool_command="goal=1; echo $goal"]
                     c [shape=parallelogram tool_command="echo ${input.x}"] }"""),
        inputs={"my-key": "x"},
    )
    assert graph.nodes["a"].tool_command == "echo $goal $$ '$input.my-key'"
    found = [(d.node, d.fix) for d in validate(graph) if d.rule == "variable_in_tool_command"]
    assert found == [("a", 'write "$KILROY_GOAL"'), ("c", 'write "$KILROY_INPUT_X"')]


def test_unknown_variables_are_reported_once_each():
    """The first place is named, with the number of others; capitals are the shell's and left alone. A declared input is known:
    without a value for it the run does not start."""
    graph = prepare(
        parse_dot("""digraph G { goal=g inputs="topic" target_name=x
        a [prompt="$gaol $unheard $HOME $base_sha"]
        b [prompt="$unheard $target_nam $input.topic $input.else"]
    }""")
    )
    found = [(d.message, d.fix, d.line, d.severity) for d in graph.findings]
    assert found == [
        ("node 'a': $gaol in its prompt stays as it is: no such variable", "did you mean $goal?", 2, Severity.WARNING),
        (
            "node 'a': $unheard in its prompt stays as it is: no such variable (also in 1 more)",
            "declare it as an attribute of the graph, or write $$unheard for a dollar sign",
            2,
            Severity.WARNING,
        ),
        (
            "node 'b': $target_nam in its prompt stays as it is: no such variable",
            "did you mean $target_name?",
            3,
            Severity.WARNING,
        ),
        (
            "node 'b': $input.else in its prompt stays as it is: no such input is given",
            "declare it as an attribute of the graph, or write $$input.else for a dollar sign",
            3,
            Severity.WARNING,
        ),
    ]
    assert set(found) <= {(d.message, d.fix, d.line, d.severity) for d in validate(graph)}


def test_a_goal_that_is_not_set_is_named():
    """``$goal`` without a goal stays, with a warning of its own."""
    graph = prepare(parse_dot('digraph G { a [prompt="$goal"] }'))
    assert graph.nodes["a"].prompt == "$goal"
    assert [d.message for d in graph.findings] == ["node 'a': $goal in its prompt stays as it is: the graph has no goal"]


def test_prompt_files_are_read_before_variables():
    """The text takes the place of ``prompt_file``, and its variables are replaced."""
    files = {"prompts/plan.md": "Plan $goal.\n"}
    graph = prepare(parse_dot('digraph G { goal=win a [prompt_file="prompts/plan.md"] }'), read_text=files.__getitem__)
    assert graph.nodes["a"].prompt == "Plan win.\n"
    assert not graph.nodes["a"].has("prompt_file")


def test_a_prompt_file_that_cannot_be_read_is_an_error():
    """The diagnostic names node, file and reason, at the place of the file's name."""

    def read_text(name: str) -> str:
        raise FileNotFoundError(2, "No such file or directory", name)

    graph = prepare(parse_dot('digraph G {\n a [prompt_file="p.md"] }'), read_text=read_text)
    (finding,) = graph.findings
    assert (finding.rule, finding.severity, finding.line, finding.column) == ("prompt_file_readable", Severity.ERROR, 2, 17)
    assert finding.message == "node 'a': the prompt file 'p.md' cannot be read: No such file or directory"


def test_without_a_reader_prompt_files_stay():
    """Checking a text without its folder does not complain about files."""
    graph = prepare(parse_dot('digraph G { a [prompt_file="p.md"] }'))
    assert graph.nodes["a"].text("prompt_file") == "p.md"
    assert graph.findings == ()


def test_both_prompt_and_prompt_file_are_a_conflict():
    """Kilroy's rule and words; the file is not read."""
    graph = prepare(parse_dot('digraph G { a [prompt_file="p.md" prompt=x] }'), read_text=lambda name: "text")
    found = [d.message for d in validate(graph) if d.rule == "prompt_file_conflict"]
    assert found == ["node 'a': prompt_file and prompt are mutually exclusive"]


def test_the_graph_given_is_not_changed():
    """Transforms return a new graph (Spec 9.1)."""
    graph = parse_dot('digraph G { goal=g model_stylesheet="* { llm_model: m; }" a [prompt="$goal"] }')
    prepare(graph)
    assert graph.nodes["a"].prompt == "$goal"
    assert "llm_model" not in graph.nodes["a"].attributes


def test_the_base_commit_is_known_when_the_run_starts():
    """``$base_sha`` stays until then; text that an earlier variable brought in is not looked at again (Kilroy: $base_sha)."""
    graph = parse_dot('digraph G { goal="$base_sha" a [prompt="diff $base_sha, $$base_sha, $goal"] }')
    assert expand_variables(graph, {}).nodes["a"].prompt == "diff $base_sha, $base_sha, $base_sha"
    assert expand_variables(graph, {}, base_sha="c0ffee").nodes["a"].prompt == "diff c0ffee, $base_sha, $base_sha"
    assert prepare(graph).findings == ()


def test_questions_and_labels_of_edges_are_expanded_too():
    """They are read by people: a gate's question and the choices that it offers."""
    graph = prepare(
        parse_dot("""digraph G { goal=win ok [shape=hexagon question="Ship $goal?"] done
        ok -> done [label="[Y] ship $goal" condition="context.x=$goal"]
        ok -> ok [label="$unheard"] }""")
    )
    assert graph.nodes["ok"].text("question") == "Ship win?"
    assert (graph.edges[0].label, graph.edges[0].condition) == ("[Y] ship win", "context.x=$goal")
    assert [(d.edge, d.message) for d in graph.findings] == [
        ("ok -> ok", "edge ok -> ok: $unheard in its label stays as it is: no such variable")
    ]
