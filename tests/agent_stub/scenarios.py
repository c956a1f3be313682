"""The scenarios by name. A test may add its own with ``AgentStub.add``."""

from __future__ import annotations

from agent_stub.script import Call, Fault, Scenario, Turn

GREETING = "hello from the stub\n"
HTTP_FAULTS = (400, 401, 403, 404, 429, 500, 503, 529)

_WRITE = Turn("I will create the file.", (Call("write", {"path": "hello.txt", "content": GREETING}),))
_SHELL = Turn("I will create the file.", (Call("shell", {"command": "printf 'hello from the stub\\n' > hello.txt"}),))
_CHECK = Turn("Now I check it.", (Call("shell", {"command": "cat hello.txt && ls"}),))
_DONE = Turn("Done: hello.txt is in place.")
_TWO = Turn(
    "Two calls at once.",
    (Call("write", {"path": "a.txt", "content": "a\n"}), Call("shell", {"command": "echo b > b.txt"})),
)
_STATUS = Turn("I report how it went.", (Call("status", {"status": {"status": "success"}}),))
_NO_SUCH_TOOL = {"name": "no_such_tool", "input": {"word": "hello"}}
_GAVE_UP = {"status": "fail", "failure_reason": "the scripted agent gave up"}

SCENARIOS: dict[str, Scenario] = {
    "say": Scenario((Turn("Hello from the stub."),)),
    "write": Scenario((_WRITE, _CHECK, _DONE)),
    "shell": Scenario((_SHELL, _DONE)),
    "two": Scenario((_TWO, Turn("Both done."))),
    "failing-tool": Scenario((Turn("This will fail.", (Call("shell", {"command": "echo oops >&2; exit 3"}),)), _DONE)),
    "unknown-tool": Scenario((Turn("I use a tool that is not there.", (Call("raw", _NO_SUCH_TOOL),)), Turn("Never mind."))),
    # Two agents refuse a bare sleep of minutes; a loop runs in all of them.
    "busy": Scenario((Turn("This takes long.", (Call("shell", {"command": "while true; do sleep 1; done"}),)), _DONE)),
    "status": Scenario((_STATUS, Turn("Reported."))),
    "status-fail": Scenario((Turn("I give up.", (Call("status", {"status": _GAVE_UP}),)), Turn("Reported."))),
    "write-status": Scenario((_WRITE, _STATUS, Turn("Done and reported."))),
    "late500": Scenario((_WRITE, _DONE), Fault("http", 500, on_turn=1)),
    "cut": Scenario((_WRITE, _DONE), Fault("cut")),
    "cut-once": Scenario((_WRITE, _DONE), Fault("cut", times=1)),
    "sse-error": Scenario((_WRITE, _DONE), Fault("sse_error")),
    "hang": Scenario((_WRITE, _DONE), Fault("hang")),
    "slow": Scenario((_WRITE, _DONE), Fault("slow", seconds=0.5)),
    "quota": Scenario((_WRITE, _DONE), Fault("quota")),
    "plan": Scenario((_WRITE, _DONE), Fault("plan")),
    "credit": Scenario((_WRITE, _DONE), Fault("credit")),
}
SCENARIOS |= {f"http{status}": Scenario((_WRITE, _DONE), Fault("http", status)) for status in HTTP_FAULTS}
SCENARIOS |= {
    f"flaky{status}": Scenario((_WRITE, _DONE), Fault("http", status, times=1, retry_after_s=1)) for status in HTTP_FAULTS
}
