"""Whole runs whose agents are a program: what they may spend, and what they may not touch."""

from __future__ import annotations

import json
import tarfile
from typing import Any

import pytest
from played_claude import KEY, play_claude
from whole_runs import Place, Ran

from kilroy_engine.graph.checks.validation import validate
from kilroy_engine.graph.dot.parse import parse_dot
from kilroy_engine.graph.transforms import prepare

AGENT = 'work [shape=box, prompt="Do it", llm_model="claude-sonnet-4-5"]'
RESCUE = 'rescue [tool_command="echo rescued"]'
BOTH_WAYS = (
    f'{AGENT} {RESCUE} start -> work work -> done [condition="outcome=success"] '
    'work -> rescue [condition="outcome=fail"] rescue -> done'
)


def ledger(ran: Ran) -> list[dict[str, Any]]:
    """The lines of ``usage.ndjson``."""
    return [json.loads(line) for line in ran.file("usage.ndjson").splitlines()]


def tokens(ran: Ran) -> int:
    return sum(line["input_tokens"] + line["output_tokens"] for line in ledger(ran))


def test_what_an_agent_uses_is_in_the_ledger_and_in_the_stream_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three answers of 1,000 and 100 tokens; the closing event's totals add nothing to them."""
    play_claude(place.folder, monkeypatch)
    ran = place.runs(f"{AGENT} start -> work -> done")
    assert ran.end == ("success", "")
    told = ran.events("llm_usage")
    assert [(line["input_tokens"], line["output_tokens"], line["model"]) for line in told] == [
        (1000, 100, "claude-sonnet-4-5")
    ] * 3
    assert tokens(ran) == 3300
    # The public price of the model: 3 US dollars for a million tokens read, 15 for a million written.
    assert sum(line["cost_usd"] for line in ledger(ran)) == pytest.approx(3 * (1000 * 3 + 100 * 15) / 1e6)


def test_a_spent_budget_ends_the_run_from_the_middle_of_a_stage(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """No fail edge and no retry: who set the limit wants nothing more to be spent. The agent would go on for minutes."""
    play_claude(place.folder, monkeypatch, answers=1000, pause=0.2)
    ran = place.runs(BOTH_WAYS.replace("prompt", "max_retries=3, prompt"), max_tokens="2500")
    status, reason = ran.end
    assert status == "fail"
    assert reason.startswith("budget exhausted: 3,300 of 2,500 tokens of the run are spent; `kilroy resume")
    assert [event["unit"] for event in ran.events("budget_warning", "budget_exhausted")] == ["tokens", "tokens"]
    assert not ran.events("retry_decision")
    assert "rescue" not in ran.outcomes
    assert ran.events()[-1]["event"] == "run_failed"


def test_a_resume_with_a_higher_limit_goes_on_and_keeps_what_was_spent(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger is of the run, not of the start: 3,300 tokens are spent already."""
    play_claude(place.folder, monkeypatch)
    assert place.runs(f"{AGENT} start -> work -> done", max_tokens="2500").end[0] == "fail"
    assert place.resumes(max_tokens="5000").end[0] == "fail"
    ran = place.resumes(max_tokens="50000")
    assert ran.end == ("success", "")
    assert tokens(ran) > 5000 + 3300 - 1100


def test_dollars_bind_too(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer costs 0.0045 US dollars."""
    play_claude(place.folder, monkeypatch, answers=1000, pause=0.2)
    ran = place.runs(f"{AGENT} start -> work -> done", max_cost_usd="0.01")
    assert ran.end[0] == "fail"
    assert "0.01 of 0.01 US dollars of the run are spent" in ran.end[1]


def test_a_model_without_a_known_price_is_told_and_tokens_still_bind(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never 0 for what nobody knows."""
    play_claude(place.folder, monkeypatch, answers=1000, pause=0.2)
    agent = AGENT.replace("claude-sonnet-4-5", "claude-of-tomorrow")
    ran = place.runs(f"{agent} start -> work -> done", max_cost_usd="0.01", max_tokens="2500")
    warnings = [event["message"] for event in ran.events("warning")]
    assert [text for text in warnings if text.startswith("the price of claude-of-tomorrow is not known")]
    assert "tokens of the run are spent" in ran.end[1]
    assert all(line["cost_usd"] is None for line in ledger(ran))


def test_a_nodes_own_limit_fails_its_attempts_and_the_fail_edge_is_taken(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The class is budget_exhausted, which another attempt may help; the status file does not outrank the stop."""
    play_claude(place.folder, monkeypatch)
    limited = BOTH_WAYS.replace("prompt", 'max_retries=1, "budget.max_tokens"=2500, prompt')
    ran = place.runs(limited)
    assert ran.end == ("success", "")
    ended = [(event["attempt"], event["status"]) for event in ran.events("stage_attempt_end") if event["node_id"] == "work"]
    assert ended == [(1, "fail"), (2, "fail")]
    outcome = ran.outcomes["work"]
    assert outcome.failure_class == "budget_exhausted"
    assert "tokens of node work are spent" in outcome.failure_reason
    assert "rescue" in ran.outcomes


def test_branches_and_child_pipelines_spend_from_one_ledger(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two branches with an agent each and a child with one: all of their lines are in the run's own ledger, by their names."""
    play_claude(place.folder, monkeypatch, answers=1)
    place.write("child.dot", f"{AGENT} start -> work -> done")
    ran = place.runs(
        'fan [shape=component] join [shape=tripleoctagon] nested [shape=folder, dot_file="child.dot"] '
        'a [shape=box, prompt="A", llm_model="claude-sonnet-4-5"] b [shape=box, prompt="B", llm_model="claude-sonnet-4-5"] '
        "start -> fan fan -> a fan -> b a -> join b -> join join -> nested nested -> done"
    )
    assert ran.end == ("success", "")
    assert tokens(ran) == 3 * 1100
    assert sorted(line["node_id"].rpartition("/")[2] for line in ledger(ran)) == ["a", "b", "work"]


def test_a_budget_is_shared_by_branches(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither branch passes the limit alone."""
    play_claude(place.folder, monkeypatch, answers=2)
    ran = place.runs(
        'fan [shape=component] join [shape=tripleoctagon] a [shape=box, prompt="A"] b [shape=box, prompt="B"] '
        "start -> fan fan -> a fan -> b a -> join b -> join join -> done",
        max_tokens="3000",
    )
    assert ran.end[0] == "fail"
    assert "of the run are spent" in ran.end[1]


@pytest.mark.parametrize("wanted", ["warn", "fail"])
def test_a_reach_into_the_users_repository_is_told(git_place: Place, monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    """The agent makes a branch and commits in the user's own checkout. Nothing is put back."""
    reach = f"cd {git_place.repo} && git checkout -q -b evil && touch x && git add x"
    play_claude(git_place.folder, monkeypatch, shell=reach)
    ran = git_place.runs(f"{AGENT} start -> work -> done", source_repo_change=wanted)
    told = [event["message"] for event in ran.events("warning") if "was changed while work was at work" in event["message"]]
    assert len(told) == 1
    assert "to evil; branch evil was made; the index has other content" in told[0]
    assert ran.end[0] == ("success" if wanted == "warn" else "fail")


def test_what_the_run_itself_does_to_the_repository_is_no_reach(git_place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its branch, its worktree and its commits are its own."""
    play_claude(git_place.folder, monkeypatch, shell="echo new > made.txt")
    ran = git_place.runs(f"{AGENT} start -> work -> done", source_repo_change="fail")
    assert ran.end == ("success", "")
    assert not ran.events("warning")


def test_a_key_that_an_agent_prints_is_kept_nowhere(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the provider's key nor a secret input is in the run directory, the agent's raw lines and the archive included."""
    monkeypatch.setenv("SECRET_INPUT", "secret-input-9c2d")
    play_claude(
        place.folder, monkeypatch, shell="env | grep -e ANTHROPIC -e KILROY_INPUT; env >&2; env > $KILROY_STAGE_LOGS_DIR/x"
    )
    ran = place.runs(f"{AGENT} start -> work -> done", inputs={"token": "env:SECRET_INPUT"})
    assert ran.end == ("success", "")
    (ran.run.path / "work" / "x").unlink()  # what the agent writes itself is its own
    with tarfile.open(ran.run.path / "run.tgz") as archive:
        kept = [archive.extractfile(member).read() for member in archive if member.isfile() and member.name != "work/x"]  # type: ignore[union-attr]
    kept += [file.read_bytes() for file in ran.run.path.rglob("*") if file.is_file()]
    assert any(b"ANTHROPIC_API_KEY=*" in content for content in kept)
    assert not [content for content in kept if KEY.encode() in content or b"secret-input-9c2d" in content]


@pytest.mark.parametrize(
    ("model", "told", "counted"),
    [
        ("claude-sonnet-4-5", 0.5, 0.0135),  # the table knows the model that has answered
        ("claude-of-tomorrow", 0.5, 0.5),  # nobody but the program knows it
    ],
)
def test_the_programs_own_figure_counts_where_nobody_else_knows_the_price(
    place: Place, monkeypatch: pytest.MonkeyPatch, model: str, told: float, counted: float
) -> None:
    """The price follows from the model that has answered, whatever short name was asked for; nothing is counted twice."""
    play_claude(place.folder, monkeypatch, model=model, cost=told)
    ran = place.runs(f"{AGENT.replace('claude-sonnet-4-5', 'sonnet')} start -> work -> done")
    assert ran.end == ("success", "")
    assert sum(line["cost_usd"] or 0.0 for line in ledger(ran)) == pytest.approx(counted)
    assert tokens(ran) == 3300


def test_a_key_in_an_error_is_kept_nowhere(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider, or Node, may repeat the key that it does not like."""
    play_claude(place.folder, monkeypatch, error='"KEY" is no valid header value')
    ran = place.runs(f"{AGENT} start -> work -> done")
    assert ran.end[0] == "fail"
    assert "is no valid header value" in ran.end[1]
    kept = [file.read_bytes() for file in ran.run.path.rglob("*") if file.is_file()]
    assert not [content for content in kept if KEY.encode() in content]


@pytest.mark.parametrize("limit", ['"budget.max_tokens"=-1', '"budget.max_cost_usd"=-1', '"budget.max_cost_usd"=nan'])
def test_a_limit_that_is_none_limits_nothing(place: Place, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """The checks say that it is ignored, and so it is."""
    play_claude(place.folder, monkeypatch, answers=1)
    statements = f"{AGENT.replace('prompt', limit + ', prompt')} start -> work -> done"
    found = validate(prepare(parse_dot(place.write("checked.dot", statements).read_text())))
    assert "attribute_value" in {diagnostic.rule for diagnostic in found}
    assert place.runs(statements).end == ("success", "")


def test_parallel_agents_in_one_folder_keep_their_verdicts_apart(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slow one leaves its verdict first and is not done yet; the fast one takes its own."""
    said = 'echo \'{"status":"fail","failure_reason":"slow said so"}\' > $KILROY_STAGE_STATUS_PATH; sleep 2'
    late = f"test $KILROY_NODE_ID = slow || sleep 0.7; test $KILROY_NODE_ID = fast || {{ {said}; kill -9 $PPID; }}"
    play_claude(place.folder, monkeypatch, answers=1, shell=late)
    ran = place.runs(
        "fan [shape=component, branch_workspace=shared] join [shape=tripleoctagon] "
        'slow [shape=box, prompt="S"] fast [shape=box, prompt="F"] '
        "start -> fan fan -> slow fan -> fast slow -> join fast -> join join -> done",
        workdir=str(place.folder),
    )
    results = json.loads(ran.file("fan/parallel_results.json"))
    ended = {
        result["branch_key"]: (result["outcome"]["status"], result["outcome"].get("failure_reason", "")) for result in results
    }
    assert ended == {"slow": ("fail", "slow said so"), "fast": ("success", "")}


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("does", "reason"),
    [
        ("true", "missing status.json"),  # nothing was done, and the exit code is 0
        ("truncate -s 1G $KILROY_STAGE_STATUS_PATH", "cannot be read"),
        ("ln -s /etc/passwd $KILROY_STAGE_STATUS_PATH", "cannot be read"),
        ("mkfifo $KILROY_STAGE_STATUS_PATH", "cannot be read"),
        ("mkdir $KILROY_STAGE_STATUS_PATH", "cannot be read"),
        ("echo '{\"status\": ' > $KILROY_STAGE_STATUS_PATH", "is not JSON"),
        ("cd $KILROY_STAGE_LOGS_DIR && rm stdout.log && mkfifo stdout.log", "stdout.log is a named pipe"),
        ("cd $KILROY_STAGE_LOGS_DIR && ln -sf /etc/passwd stdout.log", "stdout.log is a link"),
    ],
)
def test_what_a_hostile_agent_leaves_fails_its_stage_with_a_reason(
    place: Place, monkeypatch: pytest.MonkeyPatch, does: str, reason: str
) -> None:
    """Nothing hangs, nothing is followed, no gigabyte is read."""
    play_claude(place.folder, monkeypatch, answers=1, shell=does, status="none")
    ran = place.runs(f"{AGENT} start -> work -> done")
    assert ran.end[0] == "fail"
    assert reason in ran.outcomes["work"].failure_reason
    kept = [file for file in ran.run.path.rglob("*") if file.is_file() and not file.is_symlink()]
    assert not [file for file in kept if b"root:x:0" in file.read_bytes()[: 1 << 20]]


def test_a_verdict_for_another_node_is_none(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent leaves a success in the directory of a stage that has not begun; that stage fails all the same."""
    forged = 'mkdir $KILROY_LOGS_ROOT/after; echo \'{"status": "success"}\' > $KILROY_LOGS_ROOT/after/status.json'
    play_claude(place.folder, monkeypatch, answers=1, shell=forged)
    ran = place.runs(f'{AGENT} after [tool_command="exit 3"] start -> work -> after -> done')
    assert (ran.end[0], ran.outcomes["after"].status) == ("fail", "fail")


def test_an_agent_that_leaves_the_runs_branch_works_on_it_all_the_same(
    git_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file is in the run's commit, and the switch is told."""
    play_claude(git_place.folder, monkeypatch, answers=1, shell="git checkout -q -b own && echo made > made.txt")
    ran = git_place.runs(f"{AGENT} start -> work -> done")
    assert ran.end == ("success", "")
    branch = json.loads(ran.file("manifest.json"))["run_branch"]
    assert git_place.git("show", f"{branch}:made.txt") == "made\n"
    assert [event for event in ran.events("warning") if "own" in event["message"]]
