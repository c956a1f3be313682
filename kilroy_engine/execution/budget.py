"""What a run, and a stage of it, may spend on models: one ledger for all branches and child pipelines, kept over starts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from kilroy_engine.errors import StopKind
from kilroy_engine.events import BudgetExhausted, BudgetWarning, Event, LlmUsage, WarningGiven
from kilroy_engine.rundir.files.usage import Usage, UsageLog
from kilroy_engine.stopping import Cancellation

WARN_AT = 0.8
"""From this part of a limit on, an event says that it is nearly reached; once for each limit of a start."""


@dataclass(frozen=True, slots=True)
class BudgetLimits:
    """US dollars, and tokens read and written together. None: no limit."""

    cost_usd: float | None = None
    tokens: int | None = None

    def __bool__(self) -> bool:
        return self.cost_usd is not None or self.tokens is not None


@dataclass(frozen=True, slots=True)
class Spent:
    """What was used so far. ``cost_usd`` is of those models alone whose price is known."""

    cost_usd: float = 0.0
    tokens: int = 0

    def plus(self, usage: Usage) -> Spent:
        return Spent(self.cost_usd + (usage.cost_usd or 0.0), self.tokens + usage.tokens)


@dataclass(frozen=True, slots=True)
class _Limit:
    unit: str
    limit: float
    spent: float

    @property
    def words(self) -> str:
        if self.unit == "usd":
            return f"{self.spent:.2f} of {self.limit:.2f} US dollars"
        return f"{self.spent:,.0f} of {self.limit:,.0f} tokens"


def _measured(limits: BudgetLimits, spent: Spent) -> tuple[_Limit, ...]:
    of_each = (("usd", limits.cost_usd, spent.cost_usd), ("tokens", limits.tokens, spent.tokens))
    return tuple(_Limit(unit, limit, used) for unit, limit, used in of_each if limit is not None)


class Meter:
    """Watches what is spent against limits: of a run, or of one attempt at a node (``node_id`` not empty).

    ``tell`` takes the events, ``stop`` is asked to stop what spends when a limit is passed. Safe for threads.
    """

    def __init__(
        self, limits: BudgetLimits, tell: Callable[[Event], None], stop: Cancellation, *, node_id: str = "", mend: str = ""
    ) -> None:
        self.limits = limits
        self.spent = Spent()
        self._tell = tell
        self._stop = stop
        self._node_id = node_id
        self._mend = mend
        self._lock = threading.Lock()
        self._said: set[str] = set()

    @property
    def exhausted(self) -> str:
        """Which limit was passed and how to go on, one sentence; empty while none was."""
        over = next((limit for limit in _measured(self.limits, self.spent) if limit.spent > limit.limit), None)
        if over is None:
            return ""
        whose = f"of node {self._node_id}" if self._node_id else "of the run"
        return f"budget exhausted: {over.words} {whose} are spent{self._mend}"

    def add(self, usage: Usage) -> None:
        """Counts a report, and acts on what that comes to."""
        with self._lock:
            self.spent = self.spent.plus(usage)
            spent = self.spent
        if usage.cost_usd is None and self.limits.cost_usd is not None and usage.tokens:
            self._once(
                f"price:{usage.model}",
                WarningGiven(
                    message=f"the price of {usage.model or 'the model'} is not known: a limit in US dollars does not see it, "
                    "a limit in tokens does"
                ),
            )
        for limit in _measured(self.limits, spent):
            facts = {"scope": "node" if self._node_id else "run", "node_id": self._node_id or None, "unit": limit.unit}
            if limit.spent > limit.limit:
                event = BudgetExhausted(spent=limit.spent, limit=limit.limit, **facts)  # type: ignore[arg-type]
                self._once(f"over:{limit.unit}", event)
            elif limit.spent >= WARN_AT * limit.limit:
                event = BudgetWarning(spent=limit.spent, limit=limit.limit, **facts)  # type: ignore[arg-type]
                self._once(f"near:{limit.unit}", event)
        if told := self.exhausted:
            self._stop.request(StopKind.BUDGET, told)

    def _once(self, what: str, event: Event) -> None:
        with self._lock:
            if what in self._said:
                return
            self._said.add(what)
        self._tell(event)


class Budget:
    """The budget of a run. ``log`` is its ledger on disk, which other processes of the run write to as well.

    In another process than the flow's there is no meter: what is spent there is written down, and the flow's process counts it.
    """

    def __init__(self, log: UsageLog, meter: Meter | None = None) -> None:
        self._log = log
        self._meter = meter

    def __reduce__(self) -> tuple[type[Budget], tuple[UsageLog]]:
        return Budget, (self._log,)

    @property
    def cost_left_usd(self) -> float | None:
        """What is left of the run's limit in US dollars, None for no limit; in another process than the flow's, too."""
        meter = self._meter
        if meter is None or meter.limits.cost_usd is None:
            return None
        return max(0.0, meter.limits.cost_usd - meter.spent.cost_usd)

    def spend(self, event: LlmUsage, names: tuple[str, ...] = ()) -> None:
        """Writes down and counts a report of a stage. ``names`` are those of the branches and child pipelines around it."""
        self._log.append(usage_of(event, names))
        self.look()

    def look(self) -> None:
        """Counts what is new in the ledger. Called after each report, and by the run's watcher for other processes' reports."""
        if self._meter is None:
            return
        for usage in self._log.news():
            self._meter.add(usage)


def usage_of(event: LlmUsage, names: tuple[str, ...] = ()) -> Usage:
    """The ledger's line for an event of a stage in the branches and child pipelines ``names``."""
    return Usage(
        node_id="/".join((*names, event.node_id)),
        provider=event.provider,
        model=event.model,
        input_tokens=event.input_tokens,
        output_tokens=event.output_tokens,
        cached_input_tokens=event.cached_input_tokens or 0,
        cost_usd=event.cost_usd,
    )
