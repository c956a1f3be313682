"""Asks Prefect about flow runs, with time limits and few retries, and goes on without an answer where the server is away."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from kilroy_engine.orchestration.ending.end_in_prefect import UNFINISHED
from kilroy_engine.orchestration.mark import MARK

_LIMIT_S = 10.0
_RETRIES = 2
_PAGE = 200


@dataclass(frozen=True, slots=True)
class Told:
    """Prefect's answer about a flow run. ``flow_run`` is None where Prefect does not know the id or is not ``reachable``."""

    reachable: bool
    flow_run: FlowRun | None = None


class PrefectApi:
    """Prefect's API. After the first request that fails, ``reachable`` is false and the methods ask no more."""

    def __init__(self, client: SyncPrefectClient) -> None:
        self.client = client
        self.reachable = True

    def flow_run(self, flow_run_id: str) -> Told:
        """Asks for the flow run with this id. A text that is no UUID counts as an id that Prefect does not know."""
        try:
            wanted = UUID(flow_run_id)
        except ValueError:
            return Told(self.reachable)
        if not self.reachable:
            return Told(reachable=False)
        try:
            return Told(reachable=True, flow_run=self.client.read_flow_run(wanted))
        except ObjectNotFound:
            return Told(reachable=True)
        except httpx.HTTPError:
            self.reachable = False
            return Told(reachable=False)

    def unfinished(self) -> list[FlowRun]:
        """The engine's flow runs, child pipelines included, that Prefect shows at work. Incomplete where Prefect is away."""
        ours = FlowRunFilter.model_validate({"tags": {"all_": [MARK]}, "state": {"type": {"any_": list(UNFINISHED)}}})
        found: list[FlowRun] = []
        while self.reachable:
            try:
                page = self.client.read_flow_runs(flow_run_filter=ours, limit=_PAGE, offset=len(found))
            except httpx.HTTPError:
                self.reachable = False
                break
            found += page
            if len(page) < _PAGE:
                break
        return found


@contextmanager
def asking_prefect() -> Generator[PrefectApi]:
    """Gives the API that Prefect's settings name, with a time limit of 10 s and two retries per request."""
    with (
        temporary_settings(updates={PREFECT_CLIENT_MAX_RETRIES: _RETRIES}),
        get_client(httpx_settings={"timeout": _LIMIT_S}, sync_client=True) as client,
    ):
        yield PrefectApi(client)
