# Everything that a person or a machine runs here. Each target works alone, from a clean clone.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
AGENTS := .agents
RANGE := 3.8.0 3.9.1
FAST := --numprocesses logical --dist loadgroup tests/unit tests/contract tests/docs

.PHONY: help setup demo demo-agents agents test unit lint types layers docs bench faults versions clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

$(VENV)/.run: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	@touch $@

setup: $(VENV)/.dev  ## virtual environment with the tested versions

# Programs of 1.2 GB. Claude and Codex come first: tests run with those two where npm gives no Gemini.
agents: $(AGENTS)/.installed  ## the real coding agents, in the versions that the tests run

$(AGENTS)/.installed: tests/agent_clis/pip.txt tests/agent_clis/package.json scripts/link_agents.py
	rm -rf $(AGENTS)
	$(PYTHON) -m venv $(AGENTS)/venv
	$(AGENTS)/venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement tests/agent_clis/pip.txt
	$(AGENTS)/venv/bin/python scripts/link_agents.py $(AGENTS)/bin claude codex node
	cp tests/agent_clis/package.json $(AGENTS)/
	PATH=$(CURDIR)/$(AGENTS)/bin:$$PATH $(AGENTS)/venv/bin/npm install --prefix $(AGENTS) --no-fund --no-audit --loglevel=error
	$(AGENTS)/venv/bin/python scripts/link_agents.py $(AGENTS)/bin gemini
	@touch $@

demo: $(VENV)/.run  ## a real pipeline builds and tests a small project
	$(BIN)/python examples/demo.py

demo-agents: $(VENV)/.run  ## agents change the small project until its tests pass, without a key
	$(BIN)/python examples/demo_agents.py

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
	$(BIN)/python -m pytest -m slow tests/unit tests/integration

versions: $(RANGE:%=$(VENV)-prefect-%/.dev)  ## what differs between Prefect versions, on the oldest and the newest supported
	for version in $(RANGE); do $(VENV)-prefect-$$version/bin/python -m pytest -m versions tests/integration || exit 1; done

# Tested versions of everything but Prefect and what that has another opinion about.
$(VENV)-prefect-%/.dev: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(@D)
	grep --extended-regexp --invert-match '^(prefect|packaging|certifi|python-slugify)==' constraints.txt > $(@D)/constraints.txt
	echo "prefect==$*" >> $(@D)/constraints.txt
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(@D)/constraints.txt --editable ".[dev]"
	@touch $@

clean:
	rm -rf $(VENV) $(VENV)-prefect-* $(AGENTS) .demo build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
