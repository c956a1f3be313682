"""The matrix: who started the run, what happens to it, and what must be true soon afterwards."""

from __future__ import annotations

from dataclasses import dataclass

LAUNCHERS = ("script", "kilroy run", "serve()", "worker", "execute")
SUPERVISED = ("serve()", "worker", "execute")

TOOL = (
    "digraph tool { start [shape=Mdiamond] done [shape=Msquare] "
    'wait [shape=parallelogram, tool_command="echo waiting; sleep 300 & sleep 300"] '
    'start -> wait  wait -> done [condition="outcome=success"] }'
)
STUBBORN = TOOL.replace("echo waiting; sleep 300 & sleep 300", "trap '' TERM INT; echo waiting; while :; do sleep 1; done")
QUICK = TOOL.replace("echo waiting; sleep 300 & sleep 300", "echo waiting")
FAILING = TOOL.replace("echo waiting; sleep 300 & sleep 300", "echo waiting; exit 3")
SHORT = TOOL.replace("sleep 300 & sleep 300", "sleep 5")
DELAY = TOOL.replace('sleep 300"]', 'false", max_retries=3, "retry.backoff.initial_delay_ms"=100000]').replace(
    "sleep 300 & ", ""
)
LOOP = (
    "digraph loop { graph [max_node_visits=100000] start [shape=Mdiamond] done [shape=Msquare] "
    'wait [shape=parallelogram, tool_command="echo waiting"] turn [shape=diamond] '
    'start -> wait -> turn  turn -> done [condition="outcome=fail"]  turn -> wait [condition="outcome=success"] }'
)
FULL = TOOL.replace(
    "echo waiting; sleep 300 & sleep 300", "echo waiting; dd if=/dev/zero of=$KILROY_LOGS_ROOT/fill bs=64k 2>&1; sleep 1"
)

BRANCHES = (
    "digraph branches { start [shape=Mdiamond] done [shape=Msquare] fan [shape=component] join [shape=tripleoctagon] "
    'wait [shape=parallelogram, tool_command="echo waiting; sleep 300 & sleep 300"] '
    'other [shape=parallelogram, tool_command="sleep 300 & sleep 300"] '
    'start -> fan  fan -> wait -> join  fan -> other -> join  join -> done [condition="outcome=success"] }'
)
AT_BRANCHES = " (two branches)"
"""End of the name of a fault that meets the run while it is at work in two branches."""


@dataclass(frozen=True)
class Fault:
    """Something that happens to a run. ``graph`` puts the run where it is met."""

    name: str
    graph: str = TOOL
    options: tuple[tuple[str, str], ...] = ()
    environment: tuple[tuple[str, str], ...] = ()


FAULTS = (
    Fault("success", QUICK),
    Fault("failure", FAILING),
    Fault("exception in our code", QUICK, environment=(("KILROY_TEST_RAISE", "1"),)),
    Fault("run deadline", options=(("run_timeout", "3s"),)),
    Fault("cancel: tool running"),
    Fault("cancel: tool ignores SIGTERM", STUBBORN),
    Fault("cancel: between stages", LOOP),
    Fault("cancel: in a retry delay", DELAY),
    Fault("cancel: before the first stage", options=(("config", "setup.yaml"),)),
    Fault("cancel: while scheduled"),
    Fault("cancel: while pending"),
    Fault("Ctrl-C once"),
    Fault("Ctrl-C twice", STUBBORN),
    Fault("SIGTERM to the flow process"),
    Fault("SIGTERM to its wrapper"),
    Fault("SIGKILL of the flow process"),
    Fault("SIGKILL of the wrapper, then a cancel"),
    Fault("SIGKILL of wrapper and flow process"),
    Fault("server gone while at work", SHORT),
    Fault("server gone at the end", QUICK, environment=(("KILROY_TEST_HOLD", "go"),)),
    Fault("server gone at the end, for long", QUICK, environment=(("KILROY_TEST_HOLD", "go"),)),
    Fault("disk full", FULL),
    Fault("hook killed between its writes", QUICK, environment=(("KILROY_FAILPOINT", "final.json@after"),)),
    Fault("hook killed in its last write", QUICK, environment=(("KILROY_FAILPOINT", "run_completed@torn"),)),
    Fault(f"cancel: tools running{AT_BRANCHES}", BRANCHES),
    Fault(f"Ctrl-C once{AT_BRANCHES}", BRANCHES),
    Fault(f"SIGTERM to the flow process{AT_BRANCHES}", BRANCHES),
    Fault(f"SIGKILL of the flow process{AT_BRANCHES}", BRANCHES),
)

BY_USER = r"canceled: in the Prefect UI or API"
CRASHED = r"crashed: .+"


@dataclass(frozen=True)
class Expected:
    """What must be true within ``within_s`` seconds. ``by`` says who ends the run; "reconcile" lets the reconciler run, with a
    grace of :data:`GRACE_S` and an interval of :data:`INTERVAL_S` instead of 120 s and 60 s."""

    status: str
    prefect: str
    reason: str = ""
    within_s: float = 15
    by: str = "hook"


OUTAGE_S = 20.0
"""How long the server is away at the end."""
GRACE_S = 3.0
INTERVAL_S = 2.0
RECONCILED_S = 30.0
NO_DIRECTORY = "none"


def unreachable(launcher: str, fault: str) -> str:
    """Why the cell is left out: it cannot be reached, or it takes minutes and is another's twin. "" where it is not."""
    if fault in ("cancel: while scheduled", "cancel: while pending") and launcher != "worker":
        return "such a run begins at once" if launcher not in SUPERVISED else "the same as under a worker: no process yet"
    if "wrapper" in fault and launcher not in SUPERVISED:
        return "nothing wraps the flow process"
    if fault.endswith("for long") and launcher not in ("kilroy run", "worker"):
        return "as under a worker" if launcher in SUPERVISED else "as with kilroy run"
    return ""


_ALONE = ("script", "kilroy run")
_SLOW = Expected("fail", "CRASHED", CRASHED, within_s=RECONCILED_S, by="reconcile")
_CRASH = Expected("fail", "CRASHED", CRASHED)
_ORPHAN = Expected("canceled", "CANCELLED", BY_USER, within_s=30, by="watcher and exit")
_CANCEL = Expected("canceled", "CANCELLED", BY_USER)
_HALF = Expected("success", "COMPLETED", within_s=RECONCILED_S, by="reconcile")

PROMISES: tuple[tuple[str, tuple[str, ...], Expected], ...] = (
    ("success", LAUNCHERS, Expected("success", "COMPLETED")),
    ("failure", LAUNCHERS, Expected("fail", "FAILED", r"stage failed with no outgoing fail edge: exit status 3.*")),
    ("exception in our code", LAUNCHERS, Expected("fail", "FAILED", r".*injected.*")),
    ("run deadline", LAUNCHERS, Expected("canceled", "FAILED", r"canceled: run deadline of 3s")),
    ("cancel: while scheduled", LAUNCHERS, Expected(NO_DIRECTORY, "CANCELLED", by="Prefect")),
    ("cancel: while pending", LAUNCHERS, Expected(NO_DIRECTORY, "CANCELLED", within_s=RECONCILED_S, by="reconcile")),
    ("cancel: tool ignores SIGTERM", SUPERVISED, Expected("canceled", "CANCELLED", BY_USER, within_s=45)),
    ("cancel:", SUPERVISED, _CANCEL),
    ("cancel:", _ALONE, Expected("canceled", "CANCELLED", BY_USER, within_s=5, by="watcher, hook")),
    ("Ctrl-C", _ALONE, Expected("canceled", "CANCELLED", r"canceled: by signal SIGINT", within_s=10)),
    ("Ctrl-C", ("serve()",), _CRASH),
    ("Ctrl-C", SUPERVISED, _SLOW),
    ("SIGTERM to the flow process", _ALONE, Expected("canceled", "CANCELLED", r"canceled: by signal SIGTERM")),
    ("SIGTERM to the flow process", SUPERVISED, _CRASH),
    ("SIGTERM to its wrapper", ("worker",), _SLOW),
    ("SIGTERM to its wrapper", ("serve()", "execute"), _ORPHAN),
    ("SIGKILL of the wrapper, then a cancel", SUPERVISED, _ORPHAN),
    ("SIGKILL of the flow process", SUPERVISED, _CRASH),
    ("SIGKILL", LAUNCHERS, _SLOW),
    ("server gone at the end, for long", _ALONE, Expected("success", "COMPLETED", within_s=60, by="exit, reconcile")),
    ("server gone at the end, for long", SUPERVISED, Expected("success", "COMPLETED", within_s=60, by="hook or reconcile")),
    ("server gone at the end", LAUNCHERS, Expected("success", "COMPLETED", within_s=60, by="hook")),
    ("server gone", _ALONE, Expected("fail", "FAILED", r"the Prefect API stopped .*", within_s=60, by="exit, reconcile")),
    ("server gone", SUPERVISED, Expected("fail", "FAILED|CRASHED", r".+", within_s=60, by="hook or reconcile")),
    ("disk full", LAUNCHERS, Expected("fail", "FAILED", r".+", within_s=RECONCILED_S, by="reconcile")),
    ("hook killed", LAUNCHERS, _HALF),
)
"""Beginning of a fault's name, launchers, promise. The first row that fits is the cell's."""


def expected(launcher: str, fault: str) -> Expected:
    """The promise of a cell."""
    return next(promise for name, who, promise in PROMISES if fault.startswith(name) and launcher in who)


IN_CI = {
    ("script", "cancel: tool running"),
    ("kilroy run", "cancel: in a retry delay"),
    ("kilroy run", "Ctrl-C twice"),
    ("kilroy run", "SIGKILL of the flow process"),
    ("script", "hook killed in its last write"),
    ("worker", "SIGTERM to its wrapper"),
    ("execute", "SIGKILL of the wrapper, then a cancel"),
    ("serve()", "SIGKILL of the flow process"),
    ("kilroy run", "cancel: tools running (two branches)"),
    ("serve()", "SIGTERM to the flow process (two branches)"),
}
"""One cell per mechanism: watcher, signal, reconciler, half-written end, killed under a worker, orphan, hook elsewhere."""
