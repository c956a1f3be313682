"""Plug-ins and flow files that were written for the version before. Their texts are those of its how-tos and docstrings."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import kilroy_engine
from kilroy_engine.errors import StopKind
from kilroy_engine.stopping import Cancellation

PLUGIN = """
from dataclasses import replace

from kilroy_engine.agents.base import AgentRequest, AgentResult, Usage
from kilroy_engine.errors import PermanentStageError, SessionLost, TransientStageError
from kilroy_engine.graph.model import Attribute, Graph
from kilroy_engine.graph.rules.subject import warning
from kilroy_engine.handlers.base import Cancellation, StageRequest
from kilroy_engine.traversal.outcome import Outcome, failure, success


def deploy(request: StageRequest, /) -> Outcome:
    target = request.node.text("acme.target")
    if not target:
        return failure("acme.target is empty")
    if request.simulate:
        return success(f"simulated: nothing was deployed to {target}")
    (request.work_dir / "deployed.txt").write_text(target)
    return success("deployed", deployed_to=target)


class Parrot:
    def run(self, request: AgentRequest, /) -> AgentResult:
        return AgentResult(request.prompt, success(), usage=(Usage("parrot-1", 10, 2, cost_usd=0.5),))


def tools_have_a_limit(subject):
    for node in subject.nodes_of("tool"):
        if node.timeout_s is None:
            yield warning("acme_timeout").on_node(node, f"node '{node.id}' has no timeout", fix='add timeout="10m"')


def upper_goal(graph: Graph) -> Graph:
    goal = graph.attributes["goal"]
    return replace(graph, attributes={**graph.attributes, "goal": replace(goal, value=goal.value.upper())})
"""
ENTRY_POINTS = """
[kilroy_engine.handlers]
acme.deploy = acme_nodes:deploy
[kilroy_engine.agents]
parrot = acme_nodes:Parrot
[kilroy_engine.rules]
limits = acme_nodes:tools_have_a_limit
[kilroy_engine.transforms]
goal = acme_nodes:upper_goal
"""
PIPELINE = """digraph g { graph [goal="ship"] s [shape=Mdiamond] x [shape=Msquare]
t [shape=parallelogram, tool_command="true"] d [type="acme.deploy", acme.target="the moon"] a [prompt="Say it."]
s -> t t -> d [condition="outcome=success"] d -> a a -> x [condition="outcome=success"] }"""
RUN = """
import json, sys
from pathlib import Path
from in_process import run_pipeline
from kilroy_engine.execution.preparing.preparation import RunParameters, prepare_run
from kilroy_engine.execution.preparing.settings import Options

pipeline, folder = sys.argv[1], Path(sys.argv[2])
options = Options(workspace="plain", agent="parrot", logs_root=str(folder / "run"))
prepared = prepare_run(RunParameters(pipeline, options=options), environ={}, base=folder)
final = run_pipeline(RunParameters(pipeline, options=options), base=folder)
print(json.dumps({
    "status": final.status,
    "reason": final.failure_reason,
    "goal": prepared.graph.goal,
    "found": [found.rule for found in prepared.diagnostics],
}))
"""


def python(*arguments: str, path: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A Python that shows every warning, with what is in ``path`` installed."""
    tests = Path(__file__).parents[1]
    environment = {"PYTHONPATH": f"{path}:{tests}", "PATH": "/usr/bin:/bin", "HOME": str(cwd), "XDG_STATE_HOME": str(cwd)}
    command = [sys.executable, "-W", "always::DeprecationWarning", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_a_plug_in_of_the_version_before_brings_its_handler_agent_rule_and_transform(tmp_path: Path) -> None:
    """A run with all of them comes to its end; each earlier spelling is told where the plug-in writes it, with the new one."""
    site = tmp_path / "site"
    info = site / "acme_nodes-3.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-nodes\nVersion: 3.1\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (site / "acme_nodes.py").write_text(PLUGIN)

    done = python("-c", RUN, PIPELINE, str(tmp_path), path=site, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["status"], told["reason"], told["goal"]) == ("success", "", "SHIP")
    assert "acme_timeout" in told["found"]
    events = [json.loads(line) for line in (tmp_path / "run" / "progress.ndjson").read_text().splitlines()]
    (usage,) = (event for event in events if event["event"] == "llm_usage")
    facts = {"node_id": "a", "model": "parrot-1", "input_tokens": 10, "output_tokens": 2, "cost_usd": 0.5}
    assert facts.items() <= usage.items()

    lines = PLUGIN.splitlines()
    warned = [line for line in done.stderr.splitlines() if "DeprecationWarning" in line]
    places = {line.split(":")[1]: line for line in warned if line.startswith(f"{site}/acme_nodes.py:")}
    assert len(places) == len(warned), done.stderr
    for written, today in (
        ("graph.rules.subject import warning", "now: from kilroy_engine import warning"),
        ("handlers.base import Cancellation", "now: from kilroy_engine import Cancellation"),
        ("usage=(Usage(", "now: from kilroy_engine import LlmUsage"),
    ):
        number = next(number for number, line in enumerate(lines, start=1) if written in line)
        assert today in places.pop(str(number))
    assert places == {}


FLOWS = {
    "kilroy_engine.orchestration.flow": "attractor",
    "kilroy_engine.orchestration.pipeline_flow": "pipeline_flow",
    "kilroy_engine.orchestration.reconcile_flow": "reconcile_runs",
}


def test_flow_files_of_the_version_before_get_the_flows_of_today(tmp_path: Path) -> None:
    """By import, and by a dotted path such as Prefect's entry points have."""
    (tmp_path / "flows.py").write_text("".join(f"from {module} import {name}\n" for module, name in FLOWS.items()))
    look = "; ".join(f"assert flows.{name} is kilroy_engine.{name}" for name in FLOWS.values())

    done = python("-c", f"import flows, kilroy_engine; {look}", path=tmp_path, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    for number, name in enumerate(FLOWS.values(), start=1):
        assert f"flows.py:{number}: DeprecationWarning" in done.stderr
        assert f"now: from kilroy_engine import {name}\n" in done.stderr


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("graph.rules.subject", "Diagnostic Graph Node Report Rule Severity Subject error info warning"),
        ("graph.dot", "parse_dot"),
        ("handlers.base", "Cancellation"),
        ("rundir.events", "Event LlmRetry LlmUsage ProviderSelected StageHeartbeat WarningGiven TERMINAL_EVENTS"),
        ("orchestration.settings", "Options"),
    ],
)
def test_an_earlier_path_leads_to_the_public_name_and_says_so(module: str, names: str) -> None:
    """The same object, with a warning at the line that asks; what is not there is Python's ImportError."""
    earlier = importlib.import_module(f"kilroy_engine.{module}")
    for name in names.split():
        with pytest.warns(DeprecationWarning, match=f"now: from kilroy_engine import {name}$") as caught:
            found = getattr(earlier, name)
        assert found is getattr(kilroy_engine, name)
        assert caught[0].filename == __file__
    with pytest.raises(AttributeError, match="has no attribute 'absent'"):
        _ = earlier.absent


def test_an_earlier_name_that_is_not_public_says_where_it_is_now() -> None:
    """It works as long as the engine has it."""
    with pytest.warns(DeprecationWarning, match="now: from kilroy_engine.graph.checks.subject import did_you_mean"):
        from kilroy_engine.graph.rules.subject import did_you_mean  # type: ignore[import-not-found]  # noqa: PLC0415
    assert did_you_mean("promt", ["prompt"]) == "did you mean 'prompt'?"


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("handlers.base", "Ask CallPrefect Choice Handler OutputSink StageRequest StageResult Supervise discard_output"),
        ("agents.base", "Agent AgentRequest AgentResult Cancellation OutputSink Outcome Usage discard_output"),
        ("traversal.outcome", "FinalStatus Json Outcome Status failure read_status success"),
        ("traversal.failure", "FailureClass"),
        ("graph.model", "Attribute Edge Graph Node Position"),
        ("graph.diagnostics", "Diagnostic Severity"),
        ("errors", "KilroyError PermanentStageError RunCanceled SessionLost TransientStageError"),
    ],
)
def test_what_has_stayed_works_without_a_word(module: str, names: str) -> None:
    """The modules of the version before that plug-ins import and that are where they were."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = importlib.import_module(f"kilroy_engine.{module}")
        assert [name for name in names.split() if not hasattr(found, name)] == []


def test_who_asked_for_a_cancel_can_be_read_as_before() -> None:
    """Empty before anybody has, and for a run that stops as failed."""
    asked, stalled = Cancellation(), Cancellation()
    with pytest.warns(DeprecationWarning, match=r"now: cancellation\.stop\.told"):
        assert asked.source == ""
    asked.request(StopKind.PERSON, "by kilroy stop")
    stalled.request(StopKind.STALL, "stall watchdog: nothing happened")
    with pytest.warns(DeprecationWarning, match=r"Cancellation\.source"):
        assert (asked.source, stalled.source) == ("by kilroy stop", "")


def test_a_module_that_nobody_ever_had_is_still_missing() -> None:
    """The finder answers for the modules of the version before and for no others."""
    with pytest.raises(ModuleNotFoundError, match=r"kilroy_engine\.graph\.rulez"):
        importlib.import_module("kilroy_engine.graph.rulez")
