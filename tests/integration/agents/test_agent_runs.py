"""Whole runs with the real agent programs against the stub of their providers: what a stage leaves, threads, branches, faults,
escalation, secrets. In process, without a Prefect server."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from agent_runs import KEY, MODEL, PROVIDER, AgentPlace, agent_place, stage
from agent_stub import AgentStub, Call, Scenario, Turn, Usage
from agent_stub.fixtures import require
from agent_stub.scenarios import GREETING
from agent_stub.script import usage_of
from whole_runs import Ran

AGENTS = ("claude", "codex", "gemini")
FAULT_LIMIT_S = 15.0
each_agent = pytest.mark.parametrize("agent", AGENTS)


@pytest.fixture
def place(
    request: pytest.FixtureRequest, agent_clis: Path, agent_stub: AgentStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AgentPlace:
    """A repository whose runs have real agents. Skips where the agent of the test's parameter is not installed."""
    callspec = getattr(request.node, "callspec", None)
    require(agent_clis, callspec.params.get("agent", "claude") if callspec else "claude")
    return agent_place(tmp_path, agent_clis, agent_stub, monkeypatch)


def told(agent: str, usage: Usage) -> tuple[int, int, int]:
    """Tokens read, written and cached, as an agent tells what the stub has counted. Gemini counts without thoughts."""
    return usage.fresh + usage.cached, usage.output - (usage.reasoning if agent == "gemini" else 0), usage.cached


def summed(lines: list[dict[str, Any]]) -> tuple[int, int, int]:
    """The same of events or of lines of the ledger."""
    return (
        sum(line["input_tokens"] for line in lines),
        sum(line["output_tokens"] for line in lines),
        sum(line.get("cached_input_tokens") or 0 for line in lines),
    )


def run_branch(place: AgentPlace) -> str:
    return place.place.git("branch", "--list", "attractor/run/*", "--format=%(refname:short)").split()[0]


def ledger(ran: Ran, node: str = "") -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in ran.file("usage.ndjson").splitlines()]
    return [line for line in lines if not node or line["node_id"] == node]


@each_agent
def test_an_agent_changes_a_file_and_reports(agent: str, place: AgentPlace) -> None:
    """Kilroy's files of a stage; the status that the agent's own tool wrote decides; the file is a commit on the run's branch;
    each answer of the model is counted once, in the stream and in the ledger."""
    ran = place.runs(stage("one", agent, "write-status") + " start -> one -> done")
    assert ran.end == ("success", "")
    assert place.asked() == [200, 200, 200]
    branch = run_branch(place)
    assert place.place.git("show", f"{branch}:hello.txt") == GREETING
    assert place.place.git("show", "--format=%s", "--name-only", f"{branch}^").split("\n", 1)[1].split() == ["hello.txt"]

    folder = ran.run.path / "one"
    invocation = json.loads(ran.file("one/cli_invocation.json"))
    assert (invocation["provider"], invocation["model"], invocation["executable"]) == (PROVIDER[agent], MODEL[agent], agent)
    assert invocation["prompt_bytes"] == (folder / "prompt.md").stat().st_size
    assert "create hello.txt" not in json.dumps(invocation)
    assert KEY not in json.dumps(invocation)
    assert json.loads(ran.file("one/cli_timing.json"))["exit_code"] == 0
    assert json.loads(ran.file("one/provider_used.json")) == {
        "backend": "cli", "mode": agent, "model": MODEL[agent], "provider": PROVIDER[agent]
    }  # fmt: skip
    assert ran.file("one/response.md") == "Done and reported."
    assert ran.file("one/events.ndjson") == ran.file("one/stdout.log")
    assert json.loads(ran.file("one/events.json")) == [json.loads(line) for line in ran.file("one/events.ndjson").splitlines()]
    assert (folder / "stderr.log").is_file()
    assert json.loads(ran.file("one/status.json"))["status"] == "success"

    (contract,) = ran.events("status_contract")
    assert contract["status_path"].endswith("/status.json")
    (decision,) = ran.events("status_ingestion_decision")
    assert (decision["source"], decision["copied"]) == ("worktree", True)
    (selected,) = ran.events("provider_selected")
    assert (selected["provider"], selected["model"], selected["backend"]) == (PROVIDER[agent], MODEL[agent], "cli")
    began, ended = ran.events("llm_tool_call_start"), ran.events("llm_tool_call_end")
    assert [one["call_id"] for one in began] == [one["call_id"] for one in ended]
    assert len(began) == 2
    assert not any(one.get("is_error") for one in ended)
    assert sum(one["tool_call_count"] for one in ran.events("llm_turn_end")) == 2
    used = told(agent, place.stub.scenario("write-status").usage)
    assert summed(ran.events("llm_usage")) == used
    assert summed(ledger(ran)) == used
    assert all(line["cost_usd"] for line in ledger(ran))


THREAD = "one -> two [fidelity=full, thread_id=talk] two -> done start -> one [fidelity=full, thread_id=talk]"


@pytest.mark.parametrize("agent", ["claude", "codex", pytest.param("gemini", marks=pytest.mark.slow)])
def test_a_second_stage_of_a_thread_goes_on_with_the_session(agent: str, place: AgentPlace) -> None:
    """The model is sent what the first stage said; what the second stage used is told without what the first one had."""
    ran = place.runs(f"{stage('one', agent, 'write-status')} {stage('two', agent, 'status')} {THREAD}")
    assert ran.end == ("success", "")
    second = [one for one in place.stub.asked(place.name) if one.scenario == "status"]
    assert "Done and reported." in json.dumps(second[0].body)
    for node, scenario in (("one", "write-status"), ("two", "status")):
        assert summed(ledger(ran, node)) == told(agent, place.stub.scenario(scenario).usage), node
    assert ran.events("warning") == []


FORGETS = {"claude": "$CLAUDE_CONFIG_DIR/projects", "codex": "$CODEX_HOME/sessions", "gemini": "$GEMINI_CLI_HOME/.gemini/tmp"}


@pytest.mark.parametrize("agent", ["claude", *(pytest.param(agent, marks=pytest.mark.slow) for agent in ("codex", "gemini"))])
def test_a_session_that_the_agent_does_not_know_is_begun_anew(agent: str, place: AgentPlace) -> None:
    """An agent's own store is not ours: somebody may have emptied it. A warning tells of it."""
    forget = f'forget [shape=parallelogram, tool_command="rm -rf {FORGETS[agent]}"]'
    edges = "start -> one [fidelity=full, thread_id=talk] one -> forget -> two [fidelity=full, thread_id=talk] two -> done"
    ran = place.runs(f"{stage('one', agent, 'status')} {forget} {stage('two', agent, 'write-status')} {edges}")
    assert ran.end == ("success", "")
    (warning,) = ran.events("warning")
    assert warning["message"].startswith("two: began a new session: ")
    assert summed(ledger(ran, "two")) == told(agent, place.stub.scenario("write-status").usage)


def own_words(stub: AgentStub, name: str) -> None:
    """A scenario for a branch: it writes a file of its own with words of its own."""
    write = Turn(f"{name} begins.", (Call("write", {"path": f"{name}.txt", "content": f"words of {name}\n"}),))
    status = Turn(f"{name} reports.", (Call("status", {"status": {"status": "success", "notes": f"notes of {name}"}}),))
    stub.add(f"of-{name}", Scenario((write, status, Turn(f"{name} is done."))))


@pytest.mark.parametrize("fourth", ["codex", pytest.param("gemini", marks=pytest.mark.slow)])
def test_four_agents_in_four_branches_do_not_meet_and_one_is_ranked_best(
    fourth: str, agent_clis: Path, place: AgentPlace
) -> None:
    """Two share each login. Every branch has its own files, answer and tokens. The fan-in's agent names the branch that goes
    on, which would not be chosen without it."""
    require(agent_clis, fourth)
    branches = {"ada": "claude", "bob": "claude", "cyd": "codex", "dan": fourth}
    for name in branches:
        own_words(place.stub, name)
    place.stub.add("rank", Scenario((Turn("The third is the best.\ncyd"),)))
    nodes = " ".join(stage(name, agent, f"of-{name}") for name, agent in branches.items())
    edges = " ".join(f"fan -> {name} -> join" for name in branches)
    join = stage("join", "claude", "rank", shape="tripleoctagon")
    ran = place.runs(f"{nodes} {join} fan [shape=component] start -> fan {edges} join -> done")
    assert ran.end == ("success", "")
    results = {result["branch_key"]: result for result in ran.context["parallel.results"]}  # type: ignore[union-attr, index]
    assert set(results) == set(branches)
    for name, agent in branches.items():
        (response,) = ran.run.path.rglob(f"{name}/response.md")
        assert response.read_text() == f"{name} is done."
        sha = results[name]["head_sha"]
        files = place.place.git("ls-tree", "--name-only", "-r", sha).split()
        assert files == sorted([f"{name}.txt", "readme.txt"])
        assert place.place.git("show", f"{sha}:{name}.txt") == f"words of {name}\n"
        lines = [line for line in ledger(ran) if line["node_id"].endswith(f"/{name}")]
        assert summed(lines) == told(agent, place.stub.scenario(f"of-{name}").usage), name
        assert {line["provider"] for line in lines} == {PROVIDER[agent]}
    assert ran.outcomes["join"].notes.startswith("fan-in selected cyd ")
    assert place.place.git("ls-tree", "--name-only", "-r", run_branch(place)).split() == ["cyd.txt", "readme.txt"]
    assert list(place.home.rglob("memory")) == []  # Claude's, of a repository: branches would share it


TRANSIENT, DETERMINISTIC, QUOTA = "transient_infra", "deterministic", "quota_exhausted"
FAULTS = {
    **{f"http{status}": DETERMINISTIC for status in (400, 401, 403, 404)},
    **{f"http{status}": TRANSIENT for status in (429, 500, 503, 529)},
    **dict.fromkeys(("late500", "cut", "sse-error", "hang"), TRANSIENT),
    **dict.fromkeys(("quota", "credit", "plan"), QUOTA),
}
"""What an agent's attempt comes to where its provider does this, by the meaning of the answer."""
OVERCOME = ("flaky429", "flaky500", "cut-once", "slow")
"""What the agent's own second request, or its patience, gets over."""
NO_STREAM = {("claude", "cut"), ("claude", "sse-error")}
"""Claude asks for the answer in one piece where a stream breaks off."""
NO_SECOND = {("gemini", "cut-once")}
"""Gemini does not ask again where a stream breaks off."""
BY_DEFAULT = {("claude", "quota"), ("codex", "http500"), ("gemini", "http403"), ("codex", "hang")}


def cases(pairs: Iterable[tuple[str, str]]) -> list[Any]:
    """Those of ``BY_DEFAULT`` without the mark ``slow``."""
    return [pytest.param(*pair, marks=() if pair in BY_DEFAULT else pytest.mark.slow) for pair in sorted(pairs)]


FAILING = set(product(AGENTS, FAULTS)) - NO_STREAM - {("gemini", "plan")} | NO_SECOND
"""Gemini knows no limits of plans."""
GOT_OVER = set(product(AGENTS, OVERCOME)) - NO_SECOND | NO_STREAM


def duration_s(ran: Ran, node: str) -> float:
    """Of the agent's program."""
    return json.loads(ran.file(f"{node}/cli_timing.json"))["duration_ms"] / 1000


@pytest.mark.parametrize(("agent", "fault"), cases(FAILING))
def test_a_fault_of_the_provider_has_its_class_soon(
    agent: str, fault: str, place: AgentPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each agent tells the same fault in other words, after retries of its own. The class decides about another attempt."""
    if (agent, fault) == ("claude", "plan"):  # the limits of plans are told to their logins alone
        monkeypatch.delenv("ANTHROPIC_API_KEY")
        monkeypatch.setenv("CLAUDE_CODE_OAUTH_TOKEN", KEY)
    # An agent's start is silent for some seconds; what is silent for longer has lost its provider.
    silence = {"agent_idle_timeout": "4s" if agent == "codex" else "8s"} if fault == "hang" else {}
    ran = place.runs(stage("one", agent, fault) + " start -> one -> done", **silence)
    outcome = ran.outcomes["one"]
    assert (outcome.status, outcome.failure_class) == ("fail", FAULTS.get(fault, TRANSIENT)), outcome.failure_reason
    assert outcome.failure_reason.startswith(agent)
    assert duration_s(ran, "one") < FAULT_LIMIT_S
    assert ran.final.status == "fail"


@pytest.mark.parametrize(("agent", "fault"), cases(GOT_OVER))
def test_what_an_agent_gets_over_itself_is_no_failure(agent: str, fault: str, place: AgentPlace) -> None:
    """It ends with its work done. Answers that did not come cost nothing; one that broke off costs what its beginning told,
    which does not always reach Claude."""
    ran = place.runs(stage("one", agent, fault, auto_status="true") + " start -> one -> done")
    assert ran.end == ("success", "")
    whole, begun = place.stub.scenario(fault).usage, Usage(usage_of(0).fresh, usage_of(0).cached, 1)
    allowed = [whole, whole + begun] if agent == "claude" and fault.startswith("cut") else [whole]
    assert summed(ledger(ran)) in [told(agent, usage) for usage in allowed]


@pytest.mark.parametrize("agent", ["codex"])
def test_a_quota_is_not_tried_again_and_says_when_it_resets(agent: str, place: AgentPlace) -> None:
    """Only time helps: the stage's retries are not for that."""
    ran = place.runs(stage("one", agent, "plan", max_retries="3") + " start -> one -> done")
    assert [event["attempt"] for event in ran.events("stage_attempt_start") if event["node_id"] == "one"] == [1]
    assert ran.outcomes["one"].failure_class == QUOTA
    assert re.search(r"try again at .*\d", ran.outcomes["one"].failure_reason)


@pytest.mark.parametrize("agent", ["claude", pytest.param("gemini", marks=pytest.mark.slow)])
def test_a_turn_limit_exhausts_the_budget(agent: str, place: AgentPlace) -> None:
    """Codex knows no such limit."""
    ran = place.runs(stage("one", agent, "write-status", max_agent_turns="1") + " start -> one -> done")
    outcome = ran.outcomes["one"]
    assert (outcome.status, outcome.failure_class) == ("fail", "budget_exhausted"), outcome.failure_reason
    assert "its turn limit is reached" in outcome.failure_reason


@pytest.mark.parametrize("agent", ["claude"])
def test_a_spent_budget_leads_to_the_next_model_of_the_list(agent: str, agent_clis: Path, place: AgentPlace) -> None:
    """The other provider's agent takes over, in the same stage."""
    require(agent_clis, "codex")
    one = stage(
        "one", agent, "write-status", agent_tool="", max_agent_turns="1", max_retries="1", escalation_models="openai:gpt-5.5"
    )
    graph = 'graph ["retries_before_escalation"=0, retry.backoff.initial_delay_ms=10]'
    ran = place.runs(one + " start -> one -> done", graph=graph)
    assert ran.end == ("success", "")
    (switch,) = ran.events("escalation_model_switch")
    assert (switch["from_model"], switch["to_provider"], switch["to_model"]) == (MODEL[agent], "openai", "gpt-5.5")
    assert switch["failure_class"] == "budget_exhausted"
    assert [event["provider"] for event in ran.events("provider_selected")] == ["anthropic", "openai"]


@pytest.mark.parametrize("agent", ["codex"])
def test_codex_has_a_temporary_folder_of_its_own_and_not_the_shared_one(agent: str, place: AgentPlace) -> None:
    """What its sandbox does to a folder that parallel agents share fails their writes, and leaves a ``.git`` behind."""
    shared = f"/tmp/{place.name}.shared"
    command = f'touch "$TMPDIR/mine" && touch own.txt; touch {shared} && touch reached.txt; true'
    status = Call("status", {"status": {"status": "success"}})
    place.stub.add("touches", Scenario((Turn("I look.", (Call("shell", {"command": command}), status)), Turn("Done."))))
    ran = place.runs(stage("one", agent, "touches") + " start -> one -> done")
    assert ran.end == ("success", "")
    assert place.place.git("ls-tree", "--name-only", "-r", run_branch(place)).split() == ["own.txt", "readme.txt"]
    assert not Path(shared).exists()


CANARY, SECRET_INPUT = "canary-of-the-shell-93ab", "canary-of-an-input-51cd"


def files_with(word: str, *folders: Path) -> list[str]:
    """Files below the folders that hold ``word``, archives opened."""
    found: list[str] = []
    for path in (path for folder in folders for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
        if word.encode() in path.read_bytes():
            found.append(str(path))
        if path.suffix == ".tgz":
            with tarfile.open(path) as archive:
                members = [archive.extractfile(member) for member in archive if member.isfile()]
                found += [f"{path}: archived" for member in members if member is not None and word.encode() in member.read()]
    return found


@each_agent
def test_no_secret_is_left_anywhere(agent: str, place: AgentPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is on no list does not reach the agent's tools. Its value, a secret input's and the provider's key are in
    no file of the run, its archive or the agent's own folder."""
    monkeypatch.setenv("CANARY_OF_THE_SHELL", CANARY)
    monkeypatch.setenv("SOME_TOKEN", SECRET_INPUT)
    names = Call("shell", {"command": "env | cut -d= -f1 | sort > names.txt"})
    status = Call("status", {"status": {"status": "success"}})
    place.stub.add(f"names-{agent}", Scenario((Turn("I look.", (names,)), Turn("I report.", (status,)), Turn("Done."))))
    inputs = 'inputs="token" input.token.secret=true'
    nodes = " ".join(stage(node, agent, f"names-{agent}") for node in ("one", "two"))
    edges = "start -> one [fidelity=full, thread_id=talk] one -> two [fidelity=full, thread_id=talk] two -> done"
    ran = place.runs(f"{nodes} {edges}", graph=f"graph [{inputs}]", inputs={"token": "env:SOME_TOKEN"})
    assert ran.end == ("success", "")
    seen = place.place.git("show", f"{run_branch(place)}:names.txt").split()
    assert "KILROY_STAGE_STATUS_PATH" in seen
    assert "KILROY_INPUT_TOKEN" in seen
    assert "CANARY_OF_THE_SHELL" not in seen
    for word in (CANARY, SECRET_INPUT, KEY):
        assert files_with(word, ran.run.path, place.home, place.place.folder / "repo") == [], word
