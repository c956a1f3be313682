"""The stub of the model providers speaks as the providers do, and plays its scenarios without memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from agent_stub import AgentStub, Call, Fault, Scenario, Turn
from agent_stub.fixtures import require

ARGUMENTS = {
    "type": "object",
    "properties": {"path": {"type": "string"}, "content": {"type": "string"}},
    "required": ["path", "content"],
}
COMMAND = {
    "type": "object",
    "properties": {"command": {"type": "string"}, "why": {"type": "string"}},
    "required": ["command", "why"],
}
CLIENT = httpx.Client(verify=False, trust_env=False)  # reading the certificates of a machine takes longer than all answers


@pytest.fixture(scope="module")
def stub() -> Iterator[AgentStub]:
    with AgentStub() as running:
        yield running


@pytest.fixture
def run_id(request: pytest.FixtureRequest) -> str:
    return request.node.name.replace("[", "-").replace("]", "")


def anthropic(url: str, prompt: str, *, streamed: bool = False, history: Any = ()) -> httpx.Response:
    tools = [{"name": "store", "input_schema": ARGUMENTS}, {"name": "do", "input_schema": COMMAND}]
    body = {"model": "m", "stream": streamed, "messages": [{"role": "user", "content": prompt}, *history], "tools": tools}
    return CLIENT.post(f"{url}/v1/messages", json=body, headers={"x-api-key": "secret-key"})


def responses(url: str, prompt: str, *, streamed: bool = False) -> httpx.Response:
    tools = [
        {"type": "function", "name": "store", "parameters": ARGUMENTS},
        {"type": "function", "name": "do", "parameters": COMMAND},
    ]
    body = {"model": "m", "stream": streamed, "input": prompt, "tools": tools}
    return CLIENT.post(f"{url}/v1/responses", json=body, headers={"authorization": "Bearer secret-key"})


def chat(url: str, prompt: str, *, streamed: bool = False) -> httpx.Response:
    tools = [
        {"type": "function", "function": {"name": "store", "parameters": ARGUMENTS}},
        {"type": "function", "function": {"name": "do", "parameters": COMMAND}},
    ]
    body = {"model": "m", "stream": streamed, "messages": [{"role": "user", "content": prompt}], "tools": tools}
    return CLIENT.post(f"{url}/v1/chat/completions", json=body, headers={"authorization": "Bearer secret-key"})


def gemini(url: str, prompt: str, *, streamed: bool = False) -> httpx.Response:
    declared = [{"name": "store", "parameters": ARGUMENTS}, {"name": "do", "parametersJsonSchema": COMMAND}]
    body = {"contents": [{"role": "user", "parts": [{"text": prompt}]}], "tools": [{"functionDeclarations": declared}]}
    method = "streamGenerateContent?alt=sse" if streamed else "generateContent"
    return CLIENT.post(f"{url}/v1beta/models/m:{method}", json=body, headers={"x-goog-api-key": "secret-key"})


PROVIDERS = [anthropic, responses, chat, gemini]
each_provider = pytest.mark.parametrize("ask", PROVIDERS, ids=lambda ask: ask.__name__)


def calls(ask: Any, answer: Any) -> list[tuple[str, dict[str, Any]]]:
    """Names and arguments of the tool calls of a plain answer, by the providers' own fields."""
    if ask is anthropic:
        return [(block["name"], block["input"]) for block in answer["content"] if block["type"] == "tool_use"]
    if ask is responses:
        made = [item for item in answer["output"] if item["type"] == "function_call"]
        return [(item["name"], json.loads(item["arguments"])) for item in made]
    if ask is chat:
        made = [call["function"] for call in answer["choices"][0]["message"]["tool_calls"]]
        return [(call["name"], json.loads(call["arguments"])) for call in made]
    parts = answer["candidates"][0]["content"]["parts"]
    return [(part["functionCall"]["name"], part["functionCall"]["args"]) for part in parts if "functionCall" in part]


@each_provider
def test_a_plain_answer_calls_the_tools_that_the_agent_offers(ask: Any, stub: AgentStub, run_id: str) -> None:
    """The tool is found by what it takes; an argument that the scenario does not know, but the tool requires, is filled."""
    answer = ask(stub.base_url(run_id, "two"), "go").json()
    named = calls(ask, answer)
    assert named[0][0] == "store"
    assert named[0][1] == {"path": "a.txt", "content": "a\n"}
    assert named[1][0] == "do"
    assert named[1][1]["command"] == "echo b > b.txt"
    assert named[1][1]["why"]


@each_provider
def test_usage_is_in_the_fields_of_the_provider(ask: Any, stub: AgentStub, run_id: str) -> None:
    """OpenAI and Gemini count cached tokens among those that went in, Anthropic beside them. Gemini counts thoughts beside the
    answer."""
    answer = ask(stub.base_url(run_id, "say"), "go").json()
    spent = stub.scenario("say").usage
    both = spent.fresh + spent.cached
    if ask is anthropic:
        got = [answer["usage"][key] for key in ("input_tokens", "cache_read_input_tokens", "output_tokens")]
        assert got == [spent.fresh, spent.cached, spent.output]
    elif ask is gemini:
        keys = ("promptTokenCount", "cachedContentTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "totalTokenCount")
        got = [answer["usageMetadata"][key] for key in keys]
        assert got == [both, spent.cached, spent.output - spent.reasoning, spent.reasoning, both + spent.output]
    else:
        first, second = ("input", "output") if ask is responses else ("prompt", "completion")
        usage = answer["usage"]
        assert [usage[f"{first}_tokens"], usage[f"{second}_tokens"]] == [both, spent.output]
        assert usage[f"{first}_tokens_details"]["cached_tokens"] == spent.cached


LAST_EVENT = {
    "anthropic": "event: message_stop",
    "responses": "event: response.completed",
    "chat": "data: [DONE]",
    "gemini": '"finishReason": "STOP"',
}


@each_provider
def test_a_stream_ends_as_the_provider_ends_its(ask: Any, stub: AgentStub, run_id: str) -> None:
    answer = ask(stub.base_url(run_id, "write"), "go", streamed=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    blocks = answer.text.strip().split("\n\n")
    assert LAST_EVENT[ask.__name__] in blocks[-1]
    assert [LAST_EVENT[ask.__name__] in block for block in blocks].count(True) == 1


@each_provider
def test_a_stream_that_is_cut_has_begun_and_does_not_end(ask: Any, stub: AgentStub, run_id: str) -> None:
    """To the client that is a broken connection in the middle of a body."""
    with pytest.raises(httpx.RemoteProtocolError):
        ask(stub.base_url(run_id, "cut"), "go", streamed=True)
    assert [one.answer for one in stub.asked(run_id)] == ["cut"]


@each_provider
def test_the_prompt_chooses_the_scenario_and_names_the_status_path(
    ask: Any, stub: AgentStub, run_id: str, tmp_path: Path
) -> None:
    """A pipeline has one base URL for all its nodes: ``[[scenario:NAME]]`` goes before the scenario of the URL. The path may
    hold spaces."""
    path = tmp_path / "my stage" / "status.json"
    prompt = f"do it [[scenario:status]]\n$KILROY_STAGE_STATUS_PATH = {path}\nor else"
    answer = ask(stub.base_url(run_id, "say"), prompt).json()
    [(name, arguments)] = calls(ask, answer)
    assert name == "do"
    assert arguments["command"] == f"printf '%s' '{{\"status\": \"success\"}}' > '{path}'"
    assert [one.scenario for one in stub.asked(run_id)] == ["status"]


@each_provider
def test_a_status_without_a_path_is_refused_by_a_sentence(ask: Any, stub: AgentStub, run_id: str) -> None:
    """A test that forgot the status contract must not run into the agent's own time limit."""
    answer = ask(stub.base_url(run_id, "status"), "do it")
    assert answer.status_code == 400
    assert "$KILROY_STAGE_STATUS_PATH" in answer.json()["error"]["message"]


@each_provider
def test_a_scenario_that_is_not_there_is_refused_by_its_name(ask: Any, stub: AgentStub, run_id: str) -> None:
    answer = ask(stub.base_url(run_id, "say"), "do it [[scenario:nonsense]]")
    assert (answer.status_code, "nonsense" in answer.text) == (400, True)


@each_provider
def test_keys_are_not_in_the_log(ask: Any, stub: AgentStub, run_id: str) -> None:
    ask(stub.base_url(run_id, "say"), "do it")
    [asked] = stub.asked(run_id)
    assert asked.headers["content-type"] == "application/json"
    assert "secret-key" not in repr(asked)


# Anthropic's, OpenAI's and Gemini's words for a quota that is used up.
QUOTA = {
    "anthropic": (429, "rate_limit_error", "usage limit reached"),
    "responses": (429, "insufficient_quota", "You exceeded your current quota"),
    "chat": (429, "insufficient_quota", "You exceeded your current quota"),
    "gemini": (429, "RESOURCE_EXHAUSTED", "retryDelay"),
}


@each_provider
def test_a_used_up_quota_has_the_words_of_the_provider(ask: Any, stub: AgentStub, run_id: str) -> None:
    answer = ask(stub.base_url(run_id, "quota"), "go", streamed=True)
    status, kind, words = QUOTA[ask.__name__]
    assert answer.status_code == status
    assert kind in answer.text
    assert words in answer.text


@each_provider
def test_a_fault_of_some_times_ends_and_says_when_to_come_back(ask: Any, stub: AgentStub, run_id: str) -> None:
    """Counted by run and scenario: another run begins anew."""
    url = stub.base_url(run_id, "flaky429")
    first, second = ask(url, "go"), ask(url, "go")
    assert (first.status_code, first.headers["retry-after"], second.status_code) == (429, "1", 200)
    assert ask(stub.base_url(f"{run_id}-other", "flaky429"), "go").status_code == 429


def test_the_turn_follows_from_the_history_alone(stub: AgentStub, run_id: str) -> None:
    """An answer is the same when asked again, and a new prompt in the same conversation begins with the first turn."""
    url = stub.base_url(run_id, "write")
    used = {"type": "tool_use", "id": "t1", "name": "store", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "made"}
    history = [{"role": "assistant", "content": [used]}, {"role": "user", "content": [result]}]
    for _ in range(2):
        assert anthropic(url, "go", history=history).json()["content"][0]["text"] == "Now I check it."
    again = [*history, {"role": "assistant", "content": "Done."}, {"role": "user", "content": "once more"}]
    assert anthropic(url, "go", history=again).json()["content"][0]["text"] == "I will create the file."


def test_a_request_that_is_never_answered_does_not_hold_the_end_up() -> None:
    with AgentStub() as stub:
        body = {"messages": [{"role": "user", "content": "go"}], "tools": [{"name": "do", "input_schema": COMMAND}]}
        stub.add("stuck", Scenario((Turn("never", (Call("shell", {"command": "true"}),)),), Fault("hang")))
        with pytest.raises(httpx.ReadTimeout):
            CLIENT.post(f"{stub.base_url('r', 'stuck')}/v1/messages", json=body, timeout=0.3)
        assert [one.answer for one in stub.asked("r")] == ["hang"]


def test_codex_gets_a_patch_for_a_file_and_a_script_from_newer_models(stub: AgentStub, run_id: str) -> None:
    """Its tools that take text are called with text: ``apply_patch``, and ``exec`` where the tools are offered in the input."""
    url = f"{stub.base_url(run_id, 'write')}/v1/responses"
    patch = {"type": "custom", "name": "apply_patch"}
    made = CLIENT.post(url, json={"input": "go", "tools": [patch]}).json()["output"][-1]
    added = "*** Begin Patch\n*** Add File: hello.txt\n+hello from the stub\n*** End Patch\n"
    assert (made["type"], made["name"], made["input"]) == ("custom_tool_call", "apply_patch", added)

    offer = {"type": "additional_tools", "tools": [{"type": "custom", "name": "exec"}]}
    made = CLIENT.post(url, json={"input": [offer, {"role": "user", "content": "go"}]}).json()["output"][-1]
    assert (made["type"], made["name"]) == ("custom_tool_call", "exec")
    assert made["input"].startswith('const r = await tools.exec_command({"cmd": "printf')


def test_a_request_without_tools_gets_the_json_that_it_asks_for(stub: AgentStub, run_id: str) -> None:
    """Gemini CLI without a model asks a small one for a route first. Such a request is no turn of the conversation."""
    wanted = {
        "type": "OBJECT",
        "properties": {"model": {"type": "STRING", "enum": ["flash", "pro"]}, "sure": {"type": "BOOLEAN"}},
    }
    body = {"contents": [{"role": "user", "parts": [{"text": "go"}]}], "generationConfig": {"responseJsonSchema": wanted}}
    answer = CLIENT.post(f"{stub.base_url(run_id, 'write')}/v1beta/models/small:generateContent", json=body).json()
    assert json.loads(answer["candidates"][0]["content"]["parts"][0]["text"]) == {"model": "flash", "sure": False}
    assert stub.asked(run_id) == []
    assert [one.path for one in stub.asked(run_id, with_tools=False)] == [
        f"/{run_id}/write/v1beta/models/small:generateContent"
    ]


@pytest.mark.parametrize(
    ("agent", "ci", "ends"),
    [
        ("claude", "true", pytest.fail.Exception),
        ("codex", "true", pytest.fail.Exception),
        ("gemini", "true", pytest.skip.Exception),
        ("claude", "", pytest.skip.Exception),
    ],
)
def test_a_missing_agent_skips_aloud_and_fails_in_continuous_integration(
    agent: str, ci: str, ends: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(ends, match=f"no program {agent} in {tmp_path}: run `make agents`"):
        require(tmp_path, agent)
