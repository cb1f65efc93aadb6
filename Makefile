# Turbo-Inferencia. Every target sets up what it needs; `make demo` and `make test` work on a fresh clone.

PYTHON ?= python3
VENV := .venv
FARM := $(VENV)/bin/farm
RUN ?= runs/demo

.PHONY: help setup demo test test-gpu lint types report dashboard clean

help:
	@echo "make demo      a real language model through the whole farm, in minutes (GPU if there is one)"
	@echo "make test      all tests that this machine can run"
	@echo "make test-gpu  those that need a CUDA device"
	@echo "make lint      ruff and mypy"
	@echo "make report    tables and figures again from $(RUN), nothing measured (RUN=folder)"
	@echo "make dashboard watch runs live and try configurations, in the browser"
	@echo "make clean     remove the virtual environment and caches; runs stay"

$(VENV)/.ready: requirements.txt requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

setup: $(VENV)/.ready

demo: setup
	$(FARM) run jobs/sweeps/demo.yaml --out $(RUN)

test: setup
	$(VENV)/bin/python -m pytest -m "not gpu"

test-gpu: setup
	$(VENV)/bin/python -m pytest -m gpu

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

report: setup
	$(FARM) report $(RUN)

dashboard: setup
	$(FARM) dashboard $(dir $(RUN))

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
