# Turbo-Inferencia. Every target sets up what it needs; `make demo` and `make test` work on a fresh clone.

PYTHON ?= python3
VENV := .venv
FARM := $(VENV)/bin/farm
RUN ?= runs/demo

# A container with everything in it, for a machine with an NVIDIA GPU. The project is mounted, so all that is made stays.
IMAGE := p6_inference_kvcache_quantization:gpu
CONTAINER := turbo_gpu
JUPYTER_BIND ?= 127.0.0.1
DOCKER_RUN = docker run --rm --gpus all --name $(CONTAINER) --shm-size 8g --user $$(id -u):$$(id -g) \
	--volume "$(CURDIR)":/workspace --workdir /workspace --env RAY_AUTH_MODE=token --env HF_TOKEN

# Ray asks for a token wherever it is started from here; left unset, each Ray would decide for itself.
export RAY_AUTH_MODE ?= token
export RAY_USAGE_STATS_ENABLED ?= 0

.PHONY: help setup demo test test-gpu lint types report dashboard notebook clean build jupyter sh stop

help:
	@echo "make demo      a real language model through the whole farm, in minutes (GPU if there is one)"
	@echo "make test      all tests that this machine can run"
	@echo "make test-gpu  those that need a CUDA device"
	@echo "make lint      ruff and mypy"
	@echo "make report    tables and figures again from $(RUN), nothing measured (RUN=folder)"
	@echo "make dashboard watch runs live and try configurations, in the browser"
	@echo "make notebook  turbo_inferencia.ipynb again from its source, executed here"
	@echo "make build     the image $(IMAGE), from Dockerfile.gpu"
	@echo "make jupyter   Jupyter in it on port 8888, always with a token; make sh: a shell in it; make stop: end it"
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

notebook: setup
	$(VENV)/bin/python -m scripts.execute_notebook

build:
	docker build --file Dockerfile.gpu --tag $(IMAGE) --build-arg FARM_COMMIT="$$(git rev-parse HEAD)" .

# The token goes in by the environment, not by the command line that every user of the machine can read. An empty one
# would switch Jupyter's check off, so it is replaced, too.
jupyter:
	@export JUPYTER_TOKEN="$${JUPYTER_TOKEN:-$$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')}" && \
	$(DOCKER_RUN) --detach --publish $(JUPYTER_BIND):8888:8888 --env JUPYTER_TOKEN $(IMAGE) \
		jupyter lab --ip 0.0.0.0 --port 8888 --no-browser && \
	echo "http://127.0.0.1:8888/lab?token=$$JUPYTER_TOKEN"

sh:
	@if docker ps --format '{{.Names}}' | grep --quiet --line-regexp $(CONTAINER); \
	then docker exec --interactive --tty $(CONTAINER) bash; \
	else $(DOCKER_RUN) --interactive --tty $(IMAGE) bash; fi

stop:
	docker stop $(CONTAINER)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
