"""A stage that leaves pipes, links and folders in the place of every file that the run needs, and goes."""

from __future__ import annotations

from leaving_stage import LEAVES
from whole_runs import Place


def test_it_is_one_stage_of_the_run(place: Place) -> None:
    """The run goes on, says which status file it has passed over, and succeeds; no link was written through."""
    script = place.folder / "leave.sh"
    script.write_text(LEAVES + "exit 0", encoding="utf-8")
    ran = place.runs(f'a [tool_command="sh {script}"] start -> a -> done')

    assert ran.end == ("success", "")
    assert any("status.json is a named pipe" in event["message"] for event in ran.events("warning"))
    assert (place.folder / "precious").read_text() == "precious\n"
