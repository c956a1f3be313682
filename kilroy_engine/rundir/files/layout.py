"""The paths of a run: the files of its run directory, the folder of all run directories, and the run ids.

The docstring of each property is the file's entry in ``docs/reference/run-directory.md``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from kilroy_engine.errors import InvalidInput
from kilroy_engine.rundir.files.inside import real_folders

RUN_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$"
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}\Z")
_STAGE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*\Z")
_RESTART = re.compile(r"restart-(\d+)\Z")
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_ULID_LENGTH = 26


@dataclass(frozen=True)
class RunDirectory:
    """The paths of one run's files. Nothing is read, written or created here.

    A ``restart-N`` directory, a branch's directory and a child pipeline's directory have the same layout, with fewer files.
    """

    path: Path

    @property
    def manifest(self) -> Path:
        """`manifest.json`: run id, pipeline, folders and inputs of the run. Written once per start."""
        return self.path / "manifest.json"

    @property
    def graph_dot(self) -> Path:
        """`graph.dot`: the pipeline's source, byte for byte as submitted."""
        return self.path / "graph.dot"

    def graph_of_start(self, start: int) -> Path:
        """`graph.start-N.dot`: the pipeline of an earlier start. Written when a resume uses a changed pipeline."""
        return self.path / f"graph.start-{start}.dot"

    @property
    def run_config(self) -> Path:
        """`run_config.json`: every setting of the run with defaults applied and secrets masked."""
        return self.path / "run_config.json"

    @property
    def preflight_report(self) -> Path:
        """`preflight_report.json`: what was checked of the agents before the first stage; of a run with agent nodes only."""
        return self.path / "preflight_report.json"

    @property
    def pid(self) -> Path:
        """`run.pid`: process id of the flow process of the latest start, decimal, no newline. Stays after the end."""
        return self.path / "run.pid"

    @property
    def lock(self) -> Path:
        """`run.lock.json`: who owns the run. Locked (`flock`) while the owner lives, touched every 10 s, never removed."""
        return self.path / "run.lock.json"

    @property
    def commit_lock(self) -> Path:
        """`commit.lock`: locked (`flock`) for milliseconds by a process that appends an event or writes the end. Empty."""
        return self.path / "commit.lock"

    @property
    def end_lock(self) -> Path:
        """`end.lock`: locked (`flock`) by the one process that ends the run, during archive and push too. Empty."""
        return self.path / "end.lock"

    @property
    def checkpoint(self) -> Path:
        """`checkpoint.json`: the run's state after the latest stage, replaced after every stage. A resume starts here."""
        return self.path / "checkpoint.json"

    @property
    def progress(self) -> Path:
        """`progress.ndjson`: the stream of events, append-only, one JSON object per line."""
        return self.path / "progress.ndjson"

    @property
    def live(self) -> Path:
        """`live.json`: the last event, replaced atomically with every event."""
        return self.path / "live.json"

    @property
    def conclusion(self) -> Path:
        """`conclusion.json`: how the walk ended, written before the flow returns. `final.json` is made from this file."""
        return self.path / "conclusion.json"

    @property
    def cancel_request(self) -> Path:
        """`cancel_request.json`: a request to stop this start. The first request of a start stays."""
        return self.path / "cancel_request.json"

    @property
    def final(self) -> Path:
        """`final.json`: how the run ended. Written once per start, before the terminal event."""
        return self.path / "final.json"

    def final_of_start(self, start: int) -> Path:
        """`final.start-N.json`: the end of an earlier start of a resumed run."""
        return self.path / f"final.start-{start}.json"

    @property
    def dossier(self) -> Path:
        """`failure_dossier.json`: facts about the latest failed stage. Not removed by a later success."""
        return self.path / "failure_dossier.json"

    @property
    def usage(self) -> Path:
        """`usage.ndjson`: what models have cost, one line for each report, of branches, child pipelines and all starts."""
        return self.path / "usage.ndjson"

    @property
    def log(self) -> Path:
        """`run.log`: records for people, one JSON object per line."""
        return self.path / "run.log"

    @property
    def archive(self) -> Path:
        """`run.tgz`: the run directory at the end, without work folders, locks and secrets."""
        return self.path / "run.tgz"

    @property
    def outputs(self) -> Path:
        """`outputs/`: copies of the outputs that the pipeline declares."""
        return self.path / "outputs"

    @property
    def outputs_index(self) -> Path:
        """`outputs.json`: which declared outputs were found, and where their copies are."""
        return self.path / "outputs.json"

    @property
    def artifacts(self) -> Path:
        """`artifacts/`: context values of more than 100 KiB; the context holds a reference to the file."""
        return self.path / "artifacts"

    @property
    def package(self) -> Path:
        """`run.package/`: scripts, prompts and `workflow.toml` of the workflow package that the run began with, if any."""
        return self.path / "run.package"

    @property
    def worktree(self) -> Path:
        """`worktree/`: the folder that the stages work in, unless `manifest.json` names another folder."""
        return self.path / "worktree"

    @property
    def supervisor(self) -> Path:
        """`supervisor.json`: the node and the run that a child pipeline belongs to. Only in a child pipeline's directory."""
        return self.path / "supervisor.json"

    @property
    def guidance(self) -> Path:
        """`steer.md`: the manager's latest message to the child pipeline's agents. Only in a child pipeline's directory."""
        return self.path / "steer.md"

    def stage(self, node_id: str) -> Path:
        """`<node_id>/`: files of the node's latest visit; earlier attempts in `attempt_N/`, earlier visits in `visit_N/`.

        Raises:
            InvalidInput: ``node_id`` cannot be a folder's name.
        """
        if not _STAGE_NAME.match(node_id):
            raise InvalidInput(f"node id {node_id!r} cannot name a stage folder", name="node_id")
        return self.path / node_id

    def restart(self, number: int) -> RunDirectory:
        """`restart-N/`: where the run goes on after its N-th `loop_restart` edge, with the same layout. See below."""
        return RunDirectory(self.path / f"restart-{number}")

    def restarts(self) -> int:
        """Number of the latest ``restart-N``; 0 where there is none."""
        found = (m for folder in real_folders(self.path, "restart-*") if (m := _RESTART.match(folder.name)))
        return max((int(m[1]) for m in found), default=0)

    def ending_directories(self) -> tuple[RunDirectory, ...]:
        """The directories that get the end of the run, in the order of writing: the latest ``restart-N`` if any, then the run
        directory.
        """
        latest = self.restarts()
        return (self.restart(latest), self) if latest else (self,)


def runs_root(environ: Mapping[str, str]) -> Path:
    """Folder of all run directories: ``KILROY_RUNS_ROOT``, else ``kilroy/attractor/runs`` in the XDG state home."""
    if root := environ.get("KILROY_RUNS_ROOT", "").strip():
        return Path(root).expanduser().absolute()
    state_home = environ.get("XDG_STATE_HOME", "").strip()
    home = environ.get("HOME", "").strip()
    base = Path(state_home) if state_home else (Path(home) if home else Path.home()) / ".local" / "state"
    return base.absolute() / "kilroy" / "attractor" / "runs"


def check_run_id(text: str) -> str:
    """Returns ``text`` when it can be a run id.

    Raises:
        InvalidInput: ``text`` does not match the pattern, which the message shows.
    """
    if not _RUN_ID.match(text):
        raise InvalidInput(f"run id {text!r} does not match {RUN_ID_PATTERN}", name="run_id")
    return text


def run_id_of(flow_run_id: UUID | str) -> str:
    """The flow run's id in ULID form: its 128 bits as 26 characters of Crockford's base 32.

    Raises:
        InvalidInput: The text is no UUID.
    """
    try:
        number = (flow_run_id if isinstance(flow_run_id, UUID) else UUID(flow_run_id)).int
    except ValueError as error:
        raise InvalidInput(f"flow run id {flow_run_id!r} is no UUID", name="flow_run_id") from error
    return "".join(_CROCKFORD[(number >> shift) & 31] for shift in range(5 * (_ULID_LENGTH - 1), -1, -5))


def flow_run_id_of(run_id: str) -> UUID:
    """The flow run id whose :func:`run_id_of` is ``run_id``.

    Raises:
        InvalidInput: ``run_id`` is no ULID: a person chose the run id, and no flow run id follows from it.
    """
    number = 0
    for character in run_id.upper():
        digit = _CROCKFORD.find(character)
        if digit < 0:
            number = 1 << 128
            break
        number = number << 5 | digit
    if len(run_id) != _ULID_LENGTH or number >> 128:
        raise InvalidInput(f"run id {run_id!r} is not the ULID form of a flow run's id", name="run_id")
    return UUID(int=number)
