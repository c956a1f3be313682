"""However a run ends, it ends once, in time, and the same on disk and in Prefect. The table of it is made by ``matrix.py``."""

from __future__ import annotations

from pathlib import Path

import pytest
from launchers import World
from matrix_cells import FAULTS, IN_CI, LAUNCHERS, unreachable
from matrix_run import MountNotPermitted, carry_out

CELLS = [
    pytest.param(launcher, fault.name, marks=[] if (launcher, fault.name) in IN_CI else pytest.mark.slow)
    for fault in FAULTS
    for launcher in LAUNCHERS
    if not unreachable(launcher, fault.name)
]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("launcher", "fault"), CELLS)
def test_every_way_of_ending_leads_to_one_end(launcher: str, fault: str, world: World, tmp_path: Path) -> None:
    """Exactly one terminal line after final.json with the right status and reason, Prefect's state terminal and matching, no
    child process alive: within the promised time (``matrix_cells.expected``)."""
    try:
        observed = carry_out(launcher, fault, world, tmp_path / "cell")
    except MountNotPermitted as refusal:
        pytest.skip(f"mounting a small file system is not permitted here: {refusal}")
    assert not observed.problems, f"{observed}"
