"""The server of the fault tests, and the place where their cells happen."""

from __future__ import annotations

import pytest
from launchers import World
from real_prefect import Prefect, prefect

__all__ = ["prefect"]


@pytest.fixture(scope="session")
def world(prefect: Prefect, tmp_path_factory: pytest.TempPathFactory) -> World:
    """The world of the matrix: the real server of the session."""
    return World(prefect, tmp_path_factory.mktemp("world"))
