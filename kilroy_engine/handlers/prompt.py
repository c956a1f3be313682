"""The prompt of an agent: blocks that explain where and how to work, then the node's prompt (Kilroy: prompt assembly)."""

from __future__ import annotations

from pathlib import Path

from kilroy_engine.handlers.base import StageRequest
from kilroy_engine.handlers.preamble import preamble
from kilroy_engine.processes.stage_status import StatusPlaces


def assemble_prompt(request: StageRequest, contract: StatusPlaces) -> str:
    """The blocks that apply, in Kilroy's order, with a blank line between them: dossier, inputs, work folder, guidance, status
    contract, preamble, task."""
    blocks = (
        _dossier_block(request),
        _inputs_block(request.environment.get("KILROY_INPUTS_MANIFEST_PATH", "")),
        _work_folder_block(request.work_dir, request.environment.get("KILROY_LOGS_ROOT", "")),
        _guidance_block(request.guidance),
        _status_block(contract),
        preamble(request),
        request.node.prompt.strip() or request.node.label,
    )
    return "\n\n".join(block for block in blocks if block)


def _dossier_block(request: StageRequest) -> str:
    path = request.context.get("context.failure_dossier.path")
    if not path:
        return ""
    copy = request.context.get("context.failure_dossier.logs_path")
    lines = ["FAILURE DOSSIER", f"An earlier stage of this run failed. Read what is known about it first: {path}"]
    return "\n".join([*lines, f"A copy is at {copy}"] if copy else lines)


def _inputs_block(manifest: str) -> str:
    if not manifest:
        return ""
    return "\n".join(
        (
            "INPUT FILES",
            "Files that belong to this task were put into the work folder. This manifest lists them:",
            f"$KILROY_INPUTS_MANIFEST_PATH = {manifest}",
        )
    )


def _work_folder_block(work_dir: Path, run_directory: str) -> str:
    records = f"- The run keeps its records in {run_directory}: read them where they help, and change nothing there."
    return "\n".join(
        (
            "WORKTREE CONTEXT",
            f"- Your current folder, {work_dir}, is a copy of the project that belongs to this run alone.",
            "- Work in it with relative paths: do not change to another folder, and do not aim git at another one (git -C).",
            "- Absolute paths that lead elsewhere are there to be read, not to be changed.",
            *((records,) if run_directory else ()),
        )
    )


def _guidance_block(guidance: str) -> str:
    if not guidance.strip():
        return ""
    return f"GUIDANCE\nWhoever supervises this pipeline asks you to keep in mind:\n\n{guidance.strip()}"


def _status_block(contract: StatusPlaces) -> str:
    return "\n".join(
        (
            "STATUS CONTRACT",
            f"$KILROY_STAGE_STATUS_PATH = {contract.primary}",
            f"$KILROY_STAGE_STATUS_FALLBACK_PATH = {contract.fallback}",
            "- When the task is over, write one JSON object to the first path; to the second if the first cannot be written.",
            '- Everything done and every check passed: {"status": "success"}.',
            '- Not done: {"status": "fail", "failure_reason": "<why>"}.',
            '- Done, but checks failed or could not run: "status": "partial_success" and, as "verification",',
            '  {"status": "failed" or "blocked", "blocked_reason": "<why>", "commands": [{"command": "<c>", "exit_code": 1}]}.',
            '- Optional keys: "notes", "preferred_label" (the edge to take), "context_updates" (values for later stages).',
            "- Use these paths and no others, also when you work in a subfolder. Write the file first, then give your answer.",
        )
    )
