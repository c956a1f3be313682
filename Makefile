# Everything that a person or a machine runs here. Each target works alone, from a clean clone.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
FAST := --numprocesses logical tests/unit tests/contract tests/docs

.PHONY: help setup demo test unit lint types layers docs bench faults clean

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(VENV)/.run: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	@touch $@

setup: $(VENV)/.dev  ## virtual environment with the tested versions

demo: $(VENV)/.run  ## a real pipeline builds and tests a small project
	$(BIN)/python examples/demo.py

test: lint types layers $(VENV)/.dev  ## lint, types, layers and all tests
	$(BIN)/python -m pytest $(FAST)
	$(BIN)/python -m pytest tests/faults tests/integration

unit: $(VENV)/.dev  ## the fast tests: no server
	$(BIN)/python -m pytest $(FAST)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/pyright --pythonpath $(BIN)/python

layers: $(VENV)/.dev
	$(BIN)/lint-imports

docs: $(VENV)/.dev  ## writes the generated reference pages
	$(BIN)/python docs/generate.py

bench: $(VENV)/.dev  ## cost per stage and per branch, written to docs/explanation
	$(BIN)/python benchmarks/stage_cost.py
	$(BIN)/python benchmarks/fan_out.py

faults: $(VENV)/.dev  ## every way of ending a run, and 60 kills with a resume (make test: 6): takes long
	KILROY_FAULT_POINTS=60 $(BIN)/python -m pytest -m "slow or not slow" tests/contract tests/faults

clean:
	rm -rf $(VENV) .demo build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
