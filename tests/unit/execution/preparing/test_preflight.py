"""What a run's agents need, checked before the first stage."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kilroy_engine.agents.registry import AgentsOfRun
from kilroy_engine.agents.variables import AgentVariables
from kilroy_engine.errors import AgentsRefused, InvalidInput
from kilroy_engine.execution.preparing.preflight import (
    Check,
    CheckStatus,
    Surroundings,
    checked_agents,
    preflight_path,
    preflight_report,
)
from kilroy_engine.execution.preparing.preparation import PreparedRun, RunParameters, prepare_run, with_agent_block
from kilroy_engine.graph.dot.parse import parse_dot
from kilroy_engine.settings.options import Options
from kilroy_engine.settings.table import RunSettings

NOT_LOGGED_IN = "echo '{\"loggedIn\": false}'; exit 1"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a Claude Code 2.1.300 that is not logged in."""
    program = tmp_path / "bin" / "claude"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n[ $1 = auth ] && {{ {NOT_LOGGED_IN}; }}\necho 2.1.300\n")
    program.chmod(0o755)
    return tmp_path


def environ(home: Path, **variables: str) -> dict[str, str]:
    return {"HOME": str(home), "PATH": f"{home / 'bin'}:/usr/bin:/bin", "XDG_STATE_HOME": str(home / "state"), **variables}


def checks(home: Path, statements: str, *, versions: bool = False, **settings: str) -> list[tuple[str, str, str]]:
    """Name, provider and status of each check of a pipeline with a key for Claude Code."""
    graph = parse_dot(f"digraph g {{ {statements} }}")
    agents = AgentsOfRun(RunSettings(**settings), environ(home)["PATH"])  # type: ignore[arg-type]
    around = Surroundings(environ(home, ANTHROPIC_API_KEY="k"), home)
    return [(c.name, c.provider, c.status.value) for c in checked_agents(graph, agents, around, versions=versions)]


def prepared(home: Path, node: str, options: Options | None = None, **variables: str) -> PreparedRun:
    graph = (
        f'digraph g {{ s [shape=Mdiamond] e [shape=Msquare] a [prompt=x, {node}] s -> a a -> e [condition="outcome=success"] }}'
    )
    return prepare_run(
        RunParameters(graph, options=options or Options(workspace="plain")), environ=environ(home, **variables), base=home
    )


def test_every_kind_of_check_has_kilroys_name(home: Path) -> None:
    """One for each agent, its version only when asked for, and one for each model."""
    expected = [
        ("provider_cli_presence", "anthropic", "pass"),
        ("provider_model_catalog", "anthropic", "pass"),
        ("provider_api_credentials", "anthropic", "pass"),
    ]
    nodes = 'a [shape=box, llm_model="claude-haiku-4-5"] b [shape=box, llm_model="claude-haiku-4-5"]'
    assert checks(home, nodes) == expected
    assert checks(home, nodes, versions=True) == [
        expected[0],
        ("provider_cli_capabilities", "anthropic", "pass"),
        *expected[1:],
    ]


@pytest.mark.parametrize(
    ("node", "status"),
    [
        ('llm_model="claude-haiku-4-5"', ["pass"]),
        ('llm_model="claude-haiku-4.5"', ["pass"]),
        ('llm_model="claude-opus-99"', ["warn"]),
        ("llm_model=opus", []),
        ('agent_tool=claude, llm_model="gpt-5"', ["warn"]),
        ("llm_provider=anthropic", []),
    ],
)
def test_a_model_that_nobody_knows_is_a_warning(home: Path, node: str, status: list[str]) -> None:
    """New models appear; a short name is the program's own, a model of another provider is not asked for."""
    found = checks(home, f"a [shape=box, {node}]")
    assert [check[2] for check in found if check[0] == "provider_model_catalog"] == status


def test_who_needs_nothing_is_not_checked(home: Path) -> None:
    """A simulation, tools, and the credentials of any other command."""
    assert checks(home, "a [shape=box]", simulate=True) == []  # type: ignore[arg-type]
    assert checks(home, "a [shape=box]", agent="simulate") == []
    assert checks(home, "a [shape=parallelogram, tool_command=true]") == []
    assert checks(home, "a [shape=box]", agent="command", agent_command="cat") == [("provider_cli_presence", "command", "pass")]


def test_a_run_whose_agent_cannot_log_in_is_refused(home: Path) -> None:
    """Before anything is written, with what is missing and how to mend it; with a key it may run."""
    with pytest.raises(AgentsRefused, match=r"claude cannot log in: ANTHROPIC_API_KEY.*claude auth login") as caught:
        prepared(home, "llm_provider=anthropic")
    assert [check.status.value for check in caught.value.checks] == ["pass", "fail"]
    assert pickle.loads(pickle.dumps(caught.value)).checks == caught.value.checks
    run = prepared(home, "llm_provider=anthropic", ANTHROPIC_API_KEY="k")
    assert [check.status.value for check in run.checks] == ["pass", "pass"]


def test_an_agent_that_is_missing_refuses_with_its_check(home: Path) -> None:
    """The node, its line and the program are named."""
    with pytest.raises(AgentsRefused, match=r"node a \(line 1\) is an agent node and .*program codex") as caught:
        prepared(home, "agent_tool=codex")
    assert [(check.name, check.status.value) for check in caught.value.checks] == [("provider_cli_presence", "fail")]


def test_where_nobody_can_know_a_warning_is_all(home: Path) -> None:
    """An answer that says nothing refuses no run."""
    (home / "bin" / "claude").write_text("#!/bin/sh\nexit 1\n")
    run = prepared(home, "llm_provider=anthropic")
    assert [warning.partition(":")[0] for warning in run.settings.warnings] == ["agent claude may not be able to log in"]


def test_a_block_is_asked_once_the_run_is_opened(home: Path) -> None:
    """Before that a key that is missing refuses nothing; then one that is missing in the block too does."""
    run = prepared(home, "llm_provider=anthropic", Options(workspace="plain", agent_block="team"))
    around = environ(home)
    with_key = AgentVariables({"anthropic": {"ANTHROPIC_API_KEY": "canary-key"}}, hidden=("canary-key",))
    found = with_agent_block(run, {"team": with_key}.__getitem__, around)
    assert [check.message for check in found.checks if check.name == "provider_api_credentials"] == [
        "agent claude has ANTHROPIC_API_KEY"
    ]
    assert "canary-key" not in repr(found)
    with pytest.raises(AgentsRefused, match="claude cannot log in"):
        with_agent_block(run, {"team": AgentVariables({"openai": {"OPENAI_API_KEY": "k"}})}.__getitem__, around)
    with pytest.raises(InvalidInput, match=r"no Prefect block kilroy-agent/team .*prefect block register"):
        with_agent_block(run, {}.__getitem__, around)


def test_the_report_has_kilroys_shape() -> None:
    """Kilroy's ``preflight_report.json``: its keys, its status words, a summary that counts them."""
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    found = [
        Check("provider_cli_presence", CheckStatus.PASS, "there", "openai", {"path": "/x"}),
        Check("provider_model_catalog", CheckStatus.WARN, "unknown"),
        Check("provider_api_credentials", CheckStatus.FAIL, "no key", "openai"),
    ]
    assert preflight_report(found, began=moment, ended=moment) == {
        "generated_at": "2026-01-02T03:04:05Z",
        "completed_at": "2026-01-02T03:04:05Z",
        "cli_profile": "real",
        "allow_test_shim": False,
        "strict_capabilities": False,
        "capability_probe_mode": "off",
        "prompt_probe_mode": "off",
        "checks": [
            {
                "name": "provider_cli_presence",
                "provider": "openai",
                "status": "pass",
                "message": "there",
                "details": {"path": "/x"},
            },
            {"name": "provider_model_catalog", "status": "warn", "message": "unknown"},
            {"name": "provider_api_credentials", "provider": "openai", "status": "fail", "message": "no key"},
        ],
        "summary": {"pass": 1, "warn": 1, "fail": 1},
    }


def test_a_report_without_a_run_has_a_place_of_its_own(tmp_path: Path) -> None:
    """One for each pipeline, beside the run directories and not among them; or in the run directory that is named."""
    around = {"XDG_STATE_HOME": str(tmp_path)}
    assert preflight_path(Options(), name="../a b", environ=around) == tmp_path / "kilroy/attractor/preflight/.._a_b.json"
    assert preflight_path(Options(logs_root="/r"), name="a", environ=around) == Path("/r/preflight_report.json")


@pytest.mark.parametrize(
    ("models", "agent", "found"),
    [
        ("anthropic:claude-opus-4-5", "", []),
        ("openai:gpt-5.5", "", [("provider_model_catalog", "openai", "warn")]),  # codex is not installed
        ("openai:gpt-5.5", "claude", [("provider_model_catalog", "openai", "warn")]),  # the wished agent has no such model
    ],
)
def test_a_model_that_a_node_may_go_over_to_is_looked_at_before(
    home: Path, models: str, agent: str, found: list[tuple[str, str, str]]
) -> None:
    """Else the attempt after the switch fails hours later, or works with a model that nobody named."""
    node = f'a [shape=box, llm_model="claude-haiku-4-5", escalation_models="{models}"]'
    assert [check for check in checks(home, node, agent=agent) if check[2] == "warn"] == found
