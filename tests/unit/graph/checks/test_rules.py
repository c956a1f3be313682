"""The rules beyond Spec 7.2: for each, a pipeline that it speaks of and a near one that it does not."""

from __future__ import annotations

import pytest

from kilroy_engine.graph.checks.validation import validate
from kilroy_engine.graph.diagnostics import Diagnostic
from kilroy_engine.graph.dot.parse import parse_dot
from kilroy_engine.graph.node_types import BUILT_IN_TYPES
from kilroy_engine.graph.transforms import prepare


def _pipeline(body: str) -> str:
    """A pipeline around ``body``, which begins with node ``a`` and may lead to ``x``."""
    return f"digraph G {{ s [shape=Mdiamond] x [shape=Msquare] s -> a {body} }}"


def _found(body: str, rule: str) -> list[Diagnostic]:
    return [d for d in validate(prepare(parse_dot(_pipeline(body)))) if d.rule == rule]


TOOL = 'shape=parallelogram, tool_command="make"'

FIRING = [
    ("reserved_node_id", "ERROR", "a -> worktree -> x worktree [label=w]"),
    ("reserved_node_id", "ERROR", 'a -> "restart-1" -> x "restart-1" [label=w]'),
    ("reserved_node_id", "ERROR", 'a -> "run.pid" -> x "run.pid" [label=w]'),
    ("reserved_node_id", "ERROR", 'a -> "Final.JSON" -> x "Final.JSON" [label=w]'),
    ("reserved_node_id", "ERROR", 'a -> "b.lock" -> x "b.lock" [label=w]'),
    ("reserved_node_id", "ERROR", f"a -> {'b' * 121} -> x {'b' * 121} [label=w]"),
    ("reserved_node_id", "ERROR", "a [label=1] A [label=2] a -> A -> x"),
    ("reserved_keyword_node_id", "WARNING", "a -> Node -> x Node [label=n]"),
    ("reserved_keyword_node_id", "WARNING", "a -> strict -> x strict [label=n]"),
    ("edge_target_exists", "ERROR", "a [label=a] implement [label=i] a -> implment implement -> x"),
    ("edge_target_exists", "WARNING", "a [label=a] step1 [label=i] a -> step1 -> step2 -> x"),
    ("duplicate_edge", "WARNING", "a [label=a] a -> x a -> x"),
    ("duplicate_node", "WARNING", "a [label=a] a [label=b] a -> x"),
    ("self_loop", "WARNING", 'a [label=a] a -> a [condition="outcome=retry"] a -> x'),
    ("dead_end", "WARNING", "a [label=a] a -> x a -> b b [label=b]"),
    ("cycle_no_conditional_exit", "WARNING", f"a [{TOOL}] b [label=b] a -> b -> a a -> x"),
    ("cycle_no_conditional_exit", "WARNING", 'a [label=a] b [label=b] a -> b -> a [condition="outcome=success"]'),
    ("outcome_alias", "INFO", 'a [label=a] a -> x [condition="outcome=succeeded"]'),
    ("outcome_alias", "INFO", 'a [label=a] a -> x [condition="outcome=SUCCESS"]'),
    ("all_conditional_edges", "WARNING",
     'a [label=a] b [label=b] a -> x [condition="outcome=success"] a -> b [condition="outcome=fail"] b -> x'),
    ("all_conditional_edges", "WARNING", 'a [label=a] b [label=b] a -> b [condition="context.x=1"] b -> x'),
    ("dead_conditional_edge", "WARNING",
     'a [label=a] a -> x [condition="outcome=ok && outcome=fail"] a -> b b [label=b] b -> x'),
    ("dead_conditional_edge", "WARNING", 'a [label=a] a -> x [condition="k=1 && k!=1"] a -> b b [label=b] b -> x'),
    ("dead_conditional_edge", "WARNING",
     'a [label=a] b [label=b] a -> x [condition="k=1"] a -> b [condition="k=1", weight=2] b -> x'),
    ("terminal_condition_edge", "WARNING", "a [label=a] a -> x"),
    ("fail_routed_to_exit", "WARNING", 'a [label=a] a -> x [condition="outcome=failed"]'),
    ("implicit_fan_out", "INFO", "a [label=a] b [label=b] c [label=c] a -> b -> x a -> c -> x"),
    ("retry_target_exists", "WARNING", "a [label=a, retry_target=x] a -> x"),
    ("retry_target_exists", "WARNING", "a [label=a, fallback_retry_target=b] a -> x"),
    ("retry_target_exists", "WARNING", "retry_target=nothing a [label=a] a -> x"),
    ("loop_restart_failure_class_guard", "WARNING", "a [label=a] a -> s [loop_restart=true] a -> x"),
    ("loop_restart_failure_class_guard", "WARNING", 'a [label=a] a -> s [loop_restart=true, condition="outcome=fail"] a -> x'),
    ("loop_pair", "ERROR", "a [shape=trapezium] b [shape=invtrapezium, loop_id=main, loop_count=2] a -> b -> x"),
    ("loop_pair", "ERROR", "a [shape=trapezium, loop_id=m] c [shape=trapezium, loop_id=m] a -> c -> x"),
    ("loop_begin_without_end", "WARNING", "a [shape=trapezium, loop_id=main] a -> x"),
    ("loop_begin_without_end", "WARNING",
     "a [shape=trapezium, loop_id=m, loop_count=9] b [shape=invtrapezium, loop_id=m, loop_count=2] a -> b -> x"),
    ("loop_value", "WARNING", 'a [label=a, loop_until_file_contains="done.txt"] a -> x'),
    ("loop_value", "WARNING", "a [label=a, loop_while_outcome=retry] a -> x"),
    ("attribute_value", "WARNING", "a [label=a, loop_count=three] a -> x"),
    ("loop_without_condition", "WARNING", "a [label=a, loop_max=3] a -> x"),
    ("loop_without_condition", "WARNING", "a [label=a, loop_max=3, loop_count=three] a -> x"),
    ("loop_without_condition", "WARNING", "a [shape=trapezium, loop_id=m] b [shape=invtrapezium, loop_id=m] a -> b -> x"),
    ("loop_never_succeeds", "WARNING", "a [label=a, loop_max=3, loop_count=3] a -> x"),
    ("loop_on_a_marker", "WARNING", "a [label=a] x [loop_count=3] a -> x"),
    ("concurrent_not_supported", "ERROR", "a [shape=pentagon] a -> x"),
    ("concurrent_not_supported", "ERROR", "a [type=concurrent.join] a -> x"),
    ("child_pipeline_required", "ERROR", "a [shape=house] a -> x"),
    ("child_pipeline_required", "ERROR", "a [shape=folder] a -> x"),
    ("manager_stop_condition", "ERROR",
     'a [shape=house, stack.child_dotfile=c, manager.stop_condition="n > 3"] a -> x'),
    ("manager_actions", "WARNING", 'a [shape=house, stack.child_dotfile=c, manager.actions="observe,steer"] a -> x'),
    ("manager_actions", "WARNING", 'a [shape=house, stack.child_dotfile=c, manager.actions="obsreve,wait"] a -> x'),
    ("human_default_choice", "WARNING", 'a [shape=hexagon, human.default_choice=ship] a -> x [label="[Y] Yes"]'),
    ("thread_id_requires_fidelity_full", "INFO", "a [label=a, thread_id=t] a -> x"),
    ("attribute_value", "WARNING", 'a [label=a, timeout="5 minutes"] a -> x'),
    ("attribute_value", "WARNING", "a [label=a, max_retries=-1] a -> x"),
    ("attribute_value", "WARNING", 'a [label=a, max_retries="3abc"] a -> x'),
    ("attribute_value", "WARNING", "a [label=a, goal_gate=ture, retry_target=a] a -> x"),
    ("attribute_value", "WARNING", "a [label=a] a -> x [weight=heavy]"),
    ("attribute_value", "WARNING", "default_max_retries=many a [label=a] a -> x"),
    ("attribute_value", "WARNING", "a [label=a, max_node_visits=0] a -> x"),
    ("attribute_value", "WARNING", "a [label=a, retry_policy=patiently] a -> x"),
    ("attribute_value", "WARNING", "a [label=a, quorum_fraction=half] a -> x"),
    ("attribute_known", "WARNING", "a [label=a, max_retires=3] a -> x"),
    ("attribute_known", "WARNING", "a [label=a, max_visits=3] a -> x"),
    ("attribute_known", "WARNING", "a [label=a] a -> x [conditon=x]"),
    ("attribute_known", "WARNING", "model_styelsheet=x a [label=a] a -> x"),
    ("attribute_alias", "INFO", "a [llm_prompt=a] a -> x"),
    ("attribute_alias", "INFO", "default_max_retry=3 a [label=a] a -> x"),
    ("attribute_alias", "INFO", 'model_stylesheet="* { model: m; }" a [label=a] a -> x'),
    ("attribute_without_effect", "INFO", "a [label=a, collect_browser_artifacts=true] a -> x"),
    ("attribute_without_effect", "INFO", 'a [label=a, "tool_hooks.pre"="make"] a -> x'),
    ("attribute_without_effect", "INFO", "provenance_version=1 a [label=a] a -> x"),
    ("attribute_without_effect", "INFO", "a [label=a, tool_command=make] a -> x"),
    ("attribute_without_effect", "INFO", f"a [{TOOL}, llm_model=m] a -> x"),
    ("attribute_without_effect", "INFO", "a [label=a, param.x=1] a -> x"),
    ("attribute_without_effect", "INFO", "a [label=a] x [max_retries=2] a -> x"),
    ("attribute_without_effect", "INFO", "node [join_policy=wait_all] a [label=a] b [label=b] a -> b -> x"),
    ("attribute_without_effect", "INFO",
     'a [shape=component] b [label=b] j [shape=tripleoctagon] a -> b -> j a -> j [condition="outcome=success"] j -> x'),
    ("shape_known", "WARNING", "a [label=a, shape=ellipse] a -> x"),
    ("stylesheet_selector", "WARNING", 'model_stylesheet="#b { llm_model: m; }" a [label=a] a -> x'),
    ("prompt_on_conditional_node", "WARNING", "a [shape=diamond, prompt=p] a -> x"),
    ("unresolved_file_ref", "WARNING", 'a [prompt="@prompts/plan.md"] a -> x'),
    ("tool_command_required", "ERROR", "a [shape=parallelogram] a -> x"),
    ("tool_command_required", "ERROR", "a [type=tool, command=make] a -> x"),
    ("tool_command_abs_path", "WARNING", 'a [shape=parallelogram, tool_command="cd /srv && make"] a -> x'),
    ("tool_command_exit_code", "WARNING", 'a [shape=parallelogram, max_retries=2, tool_command="make test || true"] a -> x'),
    ("tool_command_exit_code", "WARNING",
     'a [shape=parallelogram, retry_target=a, tool_command="make 2>&1 | tail -20"] a -> x'),
    ("parallel_has_join", "ERROR", "a [shape=component] b [label=b] c [label=c] a -> b a -> c"),
    ("parallel_has_join", "ERROR", "a [shape=component]"),
    ("parallel_has_join", "WARNING", "a [shape=component] b [label=b] c [label=c] a -> b -> x a -> c -> x"),
]  # fmt: skip

SILENT = [
    ("child_pipeline_required", "a [shape=house, stack.child_autostart=false] a -> x"),
    ("child_pipeline_required", "stack.child_dotfile=c a [shape=house] a -> x"),
    ("manager_stop_condition", 'a [shape=house, stack.child_dotfile=c, manager.stop_condition="n=3 && m!=1"] a -> x'),
    ("manager_actions", 'a [shape=house, stack.child_dotfile=c, manager.actions="observe,wait,steer", prompt=p] a -> x'),
    ("reserved_node_id", f"a -> worktree2 -> {'b' * 120} -> x worktree2 [label=w]"),
    ("reserved_keyword_node_id", "a -> nodes -> edges -> x"),
    ("edge_target_exists", "a [label=a] a -> x"),
    ("duplicate_edge", 'a [label=a] a -> x [condition="outcome=success"] a -> x [condition="outcome=skipped"]'),
    ("duplicate_node", 'a [label=a] subgraph c { label="C"; a } a -> x'),
    ("dead_end", "a [label=a] a -> x"),
    ("cycle_no_conditional_exit", 'a [label=a] b [label=b] a -> b b -> a [condition="outcome=fail"] b -> x'),
    ("cycle_no_conditional_exit", "a [shape=hexagon] b [label=b] a -> b [label=Fix] b -> a a -> x [label=Ship]"),
    ("outcome_alias", 'a [label=a] a -> x [condition="outcome=approved && context.x=OK"]'),
    ("all_conditional_edges", 'a [label=a] b [label=b] a -> x [condition="outcome=success"] a -> b b -> x'),
    ("all_conditional_edges",
     'a [label=a] b [label=b] a -> x [condition="outcome=success"] a -> b [condition="outcome!=ok"] b -> x'),
    ("all_conditional_edges",
     f'a [{TOOL}] b [label=b] a -> x [condition="outcome=success"] a -> b [condition="outcome=fail"] b -> x'),
    ("all_conditional_edges", 'a [label=a] a -> x [condition="outcome=success"]'),
    ("dead_conditional_edge", 'a [label=a] b [label=b] a -> x [condition="k=1"] a -> b [condition="k=1 && j=2"] b -> x'),
    ("terminal_condition_edge", 'a [label=a] a -> x [condition="outcome=success"]'),
    ("terminal_condition_edge", "a [shape=hexagon] a -> x [label=Yes]"),
    ("fail_routed_to_exit", 'a [label=a] a -> x [condition="outcome!=fail"]'),
    ("implicit_fan_out", "a [label=a] b [label=b] c [label=c] a -> b [weight=1] b -> x a -> c -> x"),
    ("implicit_fan_out", "a [label=a] b [label=b] c [label=c] a -> b [label=One] b -> x a -> c [label=Two] c -> x"),
    ("implicit_fan_out", "a [shape=component] b [label=b] c [label=c] a -> b -> x a -> c -> x"),
    ("reachability", "a [label=a, retry_target=mend] mend [label=m] mend -> x a -> x"),
    ("reachability", "retry_target=mend a [label=a, goal_gate=true] mend [label=m] mend -> x a -> x"),
    ("loop_restart_failure_class_guard",
     'a [label=a] a -> s [loop_restart=true, condition="outcome=fail && context.failure_class=transient_infra"] a -> x'),
    ("loop_restart_failure_class_guard", 'a [label=a] a -> s [loop_restart=true, condition="outcome=success"] a -> x'),
    ("loop_pair", "a [shape=trapezium, loop_id=m] b [shape=invtrapezium, loop_id=m, loop_count=2] a -> b -> x"),
    ("loop_begin_without_end",
     "a [shape=trapezium, loop_id=m, loop_count=2] b [shape=invtrapezium, loop_id=m, loop_count=2] a -> b -> x"),
    ("loop_value", 'a [label=a, loop_until_file_contains="log:a:b", loop_while_outcome=FAIL] a -> x'),
    ("loop_without_condition", "a [label=a, loop_max=3, loop_until_file=done] a -> x"),
    ("loop_never_succeeds", "a [label=a, loop_max=4, loop_count=3] a -> x"),
    ("concurrent_not_supported", "a [shape=component] j [shape=tripleoctagon] a -> j -> x"),
    ("human_default_choice", 'a [shape=hexagon, human.default_choice=y] a -> x [label="[Y] Yes"]'),
    ("human_default_choice", "a [shape=hexagon, human.default_choice=X] a -> x"),
    ("thread_id_requires_fidelity_full", "default_fidelity=full a [label=a, thread_id=t] a -> x"),
    ("attribute_value",
     'a [label=a, timeout="15m", max_retries="2", goal_gate="True", retry_target=a, retry_policy=patient] a -> x'),
    ("attribute_value", "a [label=a, quorum_fraction=0.5, my_own=anything] a -> x [weight=-2]"),
    ("attribute_known", "a [label=a, color=red, style=bold, my_own=1, is_codergen=true] a -> x [penwidth=2]"),
    ("attribute_alias", "a [prompt=a] a -> x"),
    ("attribute_without_effect", "node [timeout=15m, llm_model=m] a [label=a] a -> x"),
    ("attribute_without_effect", f'model_stylesheet="* {{ llm_model: m; }}" llm_provider=p a [{TOOL}] a -> x'),
    ("attribute_without_effect", f'a [{TOOL}, prompt="read as TASK.md", timeout=5m, max_retries=2] a -> x'),
    ("attribute_without_effect", "a [shape=diamond, prompt=p] a -> x"),
    ("attribute_without_effect", "a [label=a, tool_command=\"\"] a -> x"),
    ("attribute_without_effect", 'a [type="prefect.task", ref="m:t", param.x=1] a -> x'),
    ("attribute_without_effect", "a [label=a, reasoning_effort=high, max_tokens=100, color=red, my_own=1] a -> x"),
    ("shape_known", "a [label=a, shape=ellipse, type=codergen] a -> x"),
    ("shape_known", "a [label=a, shape=tab] a -> x"),
    ("stylesheet_selector", 'model_stylesheet="#a { llm_model: m; } .none { llm_model: n; }" a [label=a] a -> x'),
    ("unresolved_file_ref", 'a [prompt="@alice please review plan.md"] a -> x'),
    ("tool_command_required", f"a [{TOOL}] a -> x"),
    ("tool_command_abs_path", 'a [shape=parallelogram, tool_command="cd src/app && make"] a -> x'),
    ("tool_command_exit_code", 'a [shape=parallelogram, tool_command="make test || true"] a -> x'),
    ("tool_command_exit_code", 'a [shape=parallelogram, max_retries=2, tool_command="set -o pipefail; make | tee log"] a -> x'),
    ("tool_command_exit_code", 'a [shape=parallelogram, max_retries=2, tool_command="make | grep -q ok"] a -> x'),
    ("parallel_has_join", "a [shape=component] b [label=b] c [label=c] a -> b -> j a -> c -> j j [shape=tripleoctagon] j -> x"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "severity", "body"), FIRING, ids=[f"{rule}-{at}" for at, (rule, *_) in enumerate(FIRING)])
def test_a_rule_fires_once_with_place_excerpt_and_fix(rule: str, severity: str, body: str):
    """Every diagnostic says where, shows the line with a caret, and how to mend it."""
    (found,) = _found(body, rule)
    assert found.severity == severity
    assert found.line == 1
    assert found.column >= 1
    assert found.excerpt.endswith("^")
    assert found.fix


@pytest.mark.parametrize(("rule", "body"), SILENT, ids=[f"{rule}-{at}" for at, (rule, _) in enumerate(SILENT)])
def test_a_rule_is_silent_on_what_is_right(rule: str, body: str):
    """Near misses: a rule that cries at these would not be read."""
    assert _found(body, rule) == []


@pytest.mark.parametrize(
    ("body", "rule", "message", "fix"),
    [
        ("a [label=a] implement [label=i] a -> implment implement -> x", "edge_target_exists", "no node 'implment' is declared",
         "did you mean 'implement'? If not, declare it: implment [label=\"…\"]"),
        ("a [label=a] plan [label=p] a -> paln paln -> x plan -> x", "edge_target_exists", "no node 'paln' is declared",
         "did you mean 'plan'? If not, declare it: paln [label=\"…\"]"),
        ("a [label=a, retry_target=aa] a -> x", "retry_target_exists", "node 'a': retry_target 'aa' is no node of the pipeline",
         "name an existing node"),
        ("plan [label=p] a [label=a, retry_target=plam] a -> plan -> x", "retry_target_exists",
         "node 'a': retry_target 'plam' is no node of the pipeline", "did you mean 'plan'?"),
        ("a [prompt=p, type=wait.humen] a -> x", "type_known",
         "node 'a': no handler serves the type 'wait.humen'; it runs as codergen, by its shape", "did you mean 'wait.human'?"),
        ("a [prompt=p, fidelity=ful] a -> x", "fidelity_valid", "node 'a': fidelity='ful' is no fidelity; compact is used",
         "did you mean 'full'?"),
        ("a [prompt=p, shape=hexagn] a -> x", "shape_known",
         "node 'a': the shape 'hexagn' has no meaning here and is treated as a box", "did you mean 'hexagon'?"),
        ("a [prompt=p, goal_gates=true] a -> x", "attribute_known", "node 'a': nothing reads the attribute 'goal_gates'",
         "did you mean 'goal_gate'?"),
        ("a [prompt=p, script=make] a -> x", "attribute_without_effect",
         "node 'a': script has no effect on a node of type codergen", "remove it; it is read by tool"),
        ("a [prompt=p, concurrent_id=one] a -> x", "attribute_without_effect",
         "node 'a': concurrent_id has no effect, nothing reads it yet", "remove it, or keep it for another engine"),
        ("a [type=tool, command=make] a -> x", "tool_command_required", "the tool node 'a' has no tool_command",
         "rename the attribute 'command' to tool_command"),
        ("a [shape=trapezium, loop_id=main] b [shape=invtrapezium, loop_id=mian, loop_count=2] a -> b -> x", "loop_pair",
         "the loop 'mian' that ends at 'b' begins nowhere", "did you mean 'main'?"),
        ('model_stylesheet="* { llm_modle: m; }" a [label=a] a -> x', "stylesheet_property",
         "model_stylesheet: the property 'llm_modle' is ignored", "did you mean 'llm_model'?"),
        ('a [label=a] a -> x [condition="outcome==success"]', "condition_syntax",
         "edge a -> x: condition 'outcome==success': '==' is no operator of conditions", "write outcome=success"),
    ],
)  # fmt: skip
def test_a_slip_is_answered_with_what_was_meant(body: str, rule: str, message: str, fix: str):
    """Did you mean: ids, types, modes, shapes, attributes, properties, operators."""
    assert [(d.message, d.fix) for d in _found(body, rule)] == [(message, fix)]


def test_the_rewrite_of_a_concurrent_region_is_shown():
    """Both ends, each by its own place, with the names of the pipeline; whatever features are taken as supported."""
    found = _found("a [shape=pentagon] b [label=b] j [shape=cylinder] a -> b -> j -> x", "concurrent_not_supported")
    assert [d.node for d in found] == ["a", "j"]
    assert {d.fix for d in found} == {"rewrite the region as a fan-out: a [shape=component]; j [shape=tripleoctagon]"}
    assert found[0].column < found[1].column


def test_an_alias_is_reported_once_for_a_file():
    """Seventy old names in a file are one note, at the first."""
    found = _found('a [llm_prompt=a] b [llm_prompt=b] a -> b -> x [condition="outcome=ok"]', "attribute_alias")
    assert [(d.message, d.node) for d in found] == [("'llm_prompt' is read as 'prompt'", "a")]
    found = _found('a [label=a] b [label=b] a -> b -> x [condition="outcome=ok"]', "outcome_alias")
    assert [(d.message, d.edge) for d in found] == [("the outcome 'ok' is read as 'success'", "a -> b")]


def test_a_default_with_a_bad_value_is_reported_once():
    """A value that many nodes inherit stands in one place."""
    assert len(_found("node [timeout=soon] a [label=a] b [label=b] a -> b -> x", "attribute_value")) == 1


def test_a_handler_of_others_may_read_any_attribute():
    """What a plug-in makes of the attributes of its nodes is its own business."""
    text = _pipeline('a [type="acme.deploy", tool_command=make, join_policy=quorum] a -> x')
    rules = {d.rule for d in validate(parse_dot(text), known_types=BUILT_IN_TYPES | {"acme.deploy"})}
    assert "attribute_without_effect" not in rules


def test_places_inside_conditions_and_stylesheets_are_exact():
    """The column is the very character in the file, behind escapes and on later lines of a text."""
    edge = ' a -> b [label="q\\"", condition="x=1 && y==2"]'
    text = f'digraph G {{\n{edge}\n graph [model_stylesheet="* {{ llm_model: m; }}\n  .c {{ oops }}"]\n}}'
    found = {d.rule: (d.line, d.column) for d in validate(parse_dot(text))}
    lines = text.split("\n")
    assert found["condition_syntax"] == (2, lines[1].index("==") + 1)
    assert found["stylesheet_syntax"] == (4, lines[3].index("}") + 1)
