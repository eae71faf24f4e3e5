# The words of this project: demo, demo-django, test, lint, bench, chaos, clean. Nothing but Python 3.10+ and make has to be there before.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo demo-django test lint bench chaos clean

## Everything on an embedded Valkey: worker, Flower, the example's tasks. ONCE=1 ends with their outcome.
demo: $(VENV)/installed-demo
	$(BIN)/python -m example_project.demo $(if $(ONCE),--once)

## The same with a Django site of two accounts.
demo-django: $(VENV)/installed-demo
	$(BIN)/python -m example_project.demo --django

## All tests; PYTEST="tests/unit -k lines" for some. Three at once, since most of their time they wait for a server.
test: $(VENV)/installed-test
	.ci/programs
	$(BIN)/python -m pytest --numprocesses 3 --dist loadscope $(PYTEST)

## Style, types, and the directions of imports.
lint: $(VENV)/installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --config setup.cfg --no-cache

bench: $(VENV)/installed-test
	$(BIN)/python -m benchmarks

## Faults at random under load: MINUTES=10 SEED=7; KILLS=200 kills tasks instead, OUTAGE=60 stops Redis for a minute.
chaos: $(VENV)/installed-test
	$(BIN)/python -m tests.faults.chaos --minutes $(or $(MINUTES),3) $(if $(SEED),--seed $(SEED)) \
		$(if $(KILLS),--kills $(KILLS)) $(if $(OUTAGE),--outage $(OUTAGE))

clean:
	rm -rf $(VENV) .demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or later is needed: make PYTHON=/path/to/python3" if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv $(VENV)

# One file per extra says that it is installed as setup.cfg has it now.
$(VENV)/installed-%: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check --editable '.[$*]'
	@touch $@
