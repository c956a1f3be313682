"""A deployment made for one pipeline, on a real server: what the run form is made of, and a run that was started from it."""

from __future__ import annotations

import httpx
import pytest
from real_prefect import Prefect, ended


def test_the_form_of_a_deployment_has_the_pipelines_inputs(worker: Prefect) -> None:
    """The server holds a schema with a field for each declared input and none for the pipeline itself."""
    schema = worker.get("/deployments/name/attractor/report")["parameter_openapi_schema"]

    assert sorted(schema["properties"]) == ["inputs", "labels", "options", "repo"]
    assert schema["required"] == ["inputs"]
    fields = schema["definitions"]["Inputs"]
    assert sorted(fields["required"]) == ["run_directory", "run_id"]
    assert {name: field["type"] for name, field in fields["properties"].items()} == {
        "run_id": "string",
        "run_directory": "string",
        "lines": "integer",
    }
    assert fields["properties"]["lines"]["default"] == 200
    assert all(field["description"] for field in fields["properties"].values())


def test_the_server_refuses_a_form_that_lacks_an_input(worker: Prefect) -> None:
    """Before there is a run, by the schema."""
    with pytest.raises(httpx.HTTPStatusError) as refusal:
        worker.start_run("report", inputs={"run_id": "x"})
    assert "run_directory" in refusal.value.response.text


def test_a_run_from_the_form_gets_typed_inputs_as_texts(worker: Prefect) -> None:
    """A figure from the form reaches the stage, and what was left out has its default."""
    first = worker.start_run(
        "attractor",
        graph="digraph first { start [shape=Mdiamond] done [shape=Msquare] start -> done }",
        options={"workspace": "plain"},
    )
    directory = worker.run_directory(first)
    assert ended(directory)["status"] == "success"

    flow_run_id = worker.start_run("report", inputs={"run_id": directory.name, "run_directory": str(directory), "lines": 1})
    run = worker.run_directory(flow_run_id)

    assert ended(run)["status"] == "success"
    assert len((run / "outputs" / "report.txt").read_text().splitlines()) == 1
    assert worker.flow_run(flow_run_id)["name"].startswith("report-")
