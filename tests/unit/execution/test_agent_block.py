"""What agents get of a block: it reaches those who need it, and nothing that is kept."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

from in_process import InProcess, run_pipeline

from kilroy_engine.agents.variables import AgentVariables
from kilroy_engine.execution.preparing.preparation import RunParameters
from kilroy_engine.settings.options import Options

KEY, TOKEN, OTHER = 'canary-"key"-4711', "canary-token-4711", "canary-other-4711"
AGENT = """#!/bin/sh
printf '%s,%s,%s' "$ANTHROPIC_API_KEY" "$OPENAI_API_KEY" "$TOKEN" | sha256sum > "$SEEN/$KILROY_NODE_ID"
echo "key $ANTHROPIC_API_KEY token $TOKEN"
echo "to the error stream: $ANTHROPIC_API_KEY" >&2
echo "{\\"status\\": \\"success\\", \\"notes\\": \\"$TOKEN\\"}" > "$KILROY_STAGE_STATUS_PATH"
"""
PIPELINE = """digraph g {{ s [shape=Mdiamond] e [shape=Msquare]
  a [prompt=x, llm_provider=anthropic] none [prompt=x] tool [shape=parallelogram, tool_command="{tool}"]
  s -> a -> none -> tool  tool -> e [condition="outcome=success"] }}"""


def test_a_key_of_a_block_reaches_agents_of_its_provider_and_no_file(tmp_path: Path) -> None:
    """An agent that prints its key on both streams, in its response and in its status file: the run directory and the archive
    hold none of it, though the agent has it. Agents of no provider get the further variables alone, tools get nothing."""
    agent, run = tmp_path / "agent", tmp_path / "run"
    agent.write_text(AGENT)
    agent.chmod(0o755)
    variables = AgentVariables(
        of_provider={"anthropic": {"ANTHROPIC_API_KEY": KEY}, "openai": {"OPENAI_API_KEY": OTHER}},
        every={"TOKEN": TOKEN, "SEEN": str(tmp_path)},
        hidden=(KEY, TOKEN, OTHER),
    )
    graph = PIPELINE.format(tool=f"test -z $ANTHROPIC_API_KEY$TOKEN && touch {tmp_path}/tool-has-none")
    options = Options(workspace="plain", logs_root=str(run), agent="command", agent_command=str(agent), agent_block="team")
    final = run_pipeline(RunParameters(graph, options=options), InProcess(blocks={"team": variables}), base=tmp_path)

    assert (final.status, final.failure_reason) == ("success", "")
    assert (tmp_path / "tool-has-none").exists()
    assert (seen(tmp_path / "a"), seen(tmp_path / "none")) == (f"{KEY},,{TOKEN}", f",,{TOKEN}")
    assert (run / "a" / "stdout.log").read_text().startswith("key ****")
    assert [path for path in run.rglob("*") if path.is_file() and b"canary" in path.read_bytes()] == []
    with tarfile.open(run / "run.tgz") as archive:
        members = [(m.name, f.read()) for m in archive if m.isfile() and (f := archive.extractfile(m))]
    assert [name for name, content in members if b"canary" in content] == []


def seen(file: Path) -> str:
    """What an agent had, of which the file has the hash."""
    having = [f"{key},{other},{token}" for key in ("", KEY) for other in ("", OTHER) for token in ("", TOKEN)]
    by_hash = {hashlib.sha256(text.encode()).hexdigest(): text for text in having}
    return by_hash[file.read_text().split()[0]]
