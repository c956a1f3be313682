"""What Prefect says about flow runs, asked patiently enough to be right and impatiently enough to go on without an answer."""

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
    """``flow_run`` is None where Prefect does not know it, or was not ``reachable``."""

    reachable: bool
    flow_run: FlowRun | None = None


class PrefectApi:
    """The API, as long as it answers. After the first request that gets through to nobody it is not asked again."""

    def __init__(self, client: SyncPrefectClient) -> None:
        self.client = client
        self.reachable = True

    def flow_run(self, flow_run_id: str) -> Told:
        """The flow run of this id. An id that is none is one that Prefect does not know."""
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
        """Flow runs of ours, child pipelines too, that Prefect shows at work; none where it cannot be asked."""
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
    """The API that Prefect's settings name."""
    with (
        temporary_settings(updates={PREFECT_CLIENT_MAX_RETRIES: _RETRIES}),
        get_client(httpx_settings={"timeout": _LIMIT_S}, sync_client=True) as client,
    ):
        yield PrefectApi(client)
