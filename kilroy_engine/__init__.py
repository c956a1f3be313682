"""Kilroy Engine: Attractor pipelines (Graphviz DOT) as Prefect flows.

This module names everything that programs, flow files and plug-ins import from the package. A name's module is loaded when
somebody asks for the name: a program that only reads a run does not load Prefect. ``docs/reference/python.md`` lists the names
by group and says what each is; ``docs/how-to`` shows how to use them. The modules of the package may move; these names stay.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from kilroy_engine.earlier import find_earlier_modules

if TYPE_CHECKING:  # for editors and type checkers, the same names as below
    from kilroy_engine.agents.base import Agent, AgentRequest, AgentResult
    from kilroy_engine.errors import (
        CorruptRecord,
        DotSyntaxError,
        KilroyError,
        PermanentStageError,
        PipelineNotFound,
        RunCanceled,
        RunDirectoryError,
        SessionLost,
        TransientStageError,
    )
    from kilroy_engine.events.base import Event, EventSink
    from kilroy_engine.events.run import TERMINAL_EVENTS, WarningGiven
    from kilroy_engine.events.stage import LlmRetry, LlmUsage, ProviderSelected, StageHeartbeat
    from kilroy_engine.graph.callees import DeploymentCallee, ObjectCallee, read_callee
    from kilroy_engine.graph.checks.subject import Report, Rule, Subject, error, info, warning
    from kilroy_engine.graph.diagnostics import Diagnostic, Severity
    from kilroy_engine.graph.dot.parse import parse_dot
    from kilroy_engine.graph.model import Attribute, Edge, Graph, Node, Position
    from kilroy_engine.graph.statuses import Json, Status
    from kilroy_engine.handlers.base import Ask, CallPrefect, Choice, Handler, StageRequest, StageResult, Supervise
    from kilroy_engine.orchestration.flows.attractor import attractor
    from kilroy_engine.orchestration.flows.pipeline_flow import pipeline_flow
    from kilroy_engine.orchestration.flows.reconcile_flow import reconcile_runs
    from kilroy_engine.processes.output import OutputSink
    from kilroy_engine.rundir.files.layout import RunDirectory
    from kilroy_engine.rundir.files.records import FinalOutcome, Manifest
    from kilroy_engine.rundir.ownership.abandoned import Abandoned
    from kilroy_engine.rundir.stream.reader import RunSummary, read_run, tail_events
    from kilroy_engine.settings.options import Options
    from kilroy_engine.stopping import Cancellation
    from kilroy_engine.traversal.failure import FailureClass
    from kilroy_engine.traversal.outcome import Outcome, failure, success
    from kilroy_engine.traversal.supervision import ChildFacts, Supervision

__version__ = "0.1.0"
__all__ = [
    "TERMINAL_EVENTS",
    "Abandoned",
    "Agent",
    "AgentRequest",
    "AgentResult",
    "Ask",
    "Attribute",
    "CallPrefect",
    "Cancellation",
    "ChildFacts",
    "Choice",
    "CorruptRecord",
    "DeploymentCallee",
    "Diagnostic",
    "DotSyntaxError",
    "Edge",
    "Event",
    "EventSink",
    "FailureClass",
    "FinalOutcome",
    "Graph",
    "Handler",
    "Json",
    "KilroyError",
    "LlmRetry",
    "LlmUsage",
    "Manifest",
    "Node",
    "ObjectCallee",
    "Options",
    "Outcome",
    "OutputSink",
    "PermanentStageError",
    "PipelineNotFound",
    "Position",
    "ProviderSelected",
    "Report",
    "Rule",
    "RunCanceled",
    "RunDirectory",
    "RunDirectoryError",
    "RunSummary",
    "SessionLost",
    "Severity",
    "StageHeartbeat",
    "StageRequest",
    "StageResult",
    "Status",
    "Subject",
    "Supervise",
    "Supervision",
    "TransientStageError",
    "WarningGiven",
    "__version__",
    "attractor",
    "error",
    "failure",
    "info",
    "parse_dot",
    "pipeline_flow",
    "read_callee",
    "read_run",
    "reconcile_runs",
    "success",
    "tail_events",
    "warning",
]

GROUPS = {
    "Reading runs": {
        "kilroy_engine.rundir.stream.reader": ("RunSummary", "read_run", "tail_events"),
        "kilroy_engine.rundir.ownership.abandoned": ("Abandoned",),
        "kilroy_engine.rundir.files.layout": ("RunDirectory",),
        "kilroy_engine.rundir.files.records": ("FinalOutcome", "Manifest"),
        "kilroy_engine.events.run": ("TERMINAL_EVENTS",),
    },
    "Flows": {
        "kilroy_engine.orchestration.flows.attractor": ("attractor",),
        "kilroy_engine.orchestration.flows.pipeline_flow": ("pipeline_flow",),
        "kilroy_engine.orchestration.flows.reconcile_flow": ("reconcile_runs",),
        "kilroy_engine.settings.options": ("Options",),
    },
    "Handlers": {
        "kilroy_engine.handlers.base": ("Handler", "StageRequest", "StageResult"),
        "kilroy_engine.traversal.outcome": ("Outcome", "failure", "success"),
        "kilroy_engine.traversal.failure": ("FailureClass",),
        "kilroy_engine.graph.statuses": ("Json", "Status"),
        "kilroy_engine.processes.output": ("OutputSink",),
        "kilroy_engine.stopping": ("Cancellation",),
    },
    "What a handler asks the engine for": {
        "kilroy_engine.handlers.base": ("Ask", "CallPrefect", "Choice", "Supervise"),
        "kilroy_engine.graph.callees": ("DeploymentCallee", "ObjectCallee", "read_callee"),
        "kilroy_engine.traversal.supervision": ("ChildFacts", "Supervision"),
    },
    "Agents": {
        "kilroy_engine.agents.base": ("Agent", "AgentRequest", "AgentResult"),
    },
    "Events that handlers and agents tell": {
        "kilroy_engine.events.base": ("Event", "EventSink"),
        "kilroy_engine.events.stage": ("LlmRetry", "LlmUsage", "ProviderSelected", "StageHeartbeat"),
        "kilroy_engine.events.run": ("WarningGiven",),
    },
    "Rules": {
        "kilroy_engine.graph.checks.subject": ("Report", "Rule", "Subject", "error", "info", "warning"),
        "kilroy_engine.graph.diagnostics": ("Diagnostic", "Severity"),
    },
    "Pipelines as values": {
        "kilroy_engine.graph.model": ("Attribute", "Edge", "Graph", "Node", "Position"),
        "kilroy_engine.graph.dot.parse": ("parse_dot",),
    },
    "Errors": {
        "kilroy_engine.errors": (
            "CorruptRecord",
            "DotSyntaxError",
            "KilroyError",
            "PermanentStageError",
            "PipelineNotFound",
            "RunCanceled",
            "RunDirectoryError",
            "SessionLost",
            "TransientStageError",
        ),
    },
}
"""Group -> module -> the public names that the module defines. The reference page is made from this table."""

_HOMES = {name: home for homes in GROUPS.values() for home, names in homes.items() for name in names}

if not TYPE_CHECKING:  # a type checker that saw this function would accept every name

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


find_earlier_modules()
