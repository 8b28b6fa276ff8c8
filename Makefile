# Every command of the project. Python 3.11 or later and make are all that a machine needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# the two distributions, then what only development needs; a stamp file says what is installed
DEMO_STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev

# A virtual environment of an older Python, or of one that is gone, would break every further try: it is made anew.
IS_FINE := import sys; sys.exit(sys.version_info < (3, 11))
ifneq ($(filter-out help clean,$(or $(MAKECMDGOALS),help)),)
ifneq ($(wildcard $(BIN)),)
ifneq ($(shell $(BIN)/python -c '$(IS_FINE)' 2>/dev/null && echo fine),fine)
$(info $(VENV) is of a Python older than 3.11, or one that is gone; it is made anew)
$(shell rm -rf $(VENV))
endif
endif
endif

.DEFAULT_GOAL := help
.PHONY: help demo test test-unit test-versions test-integration test-chart test-conformance test-published lint format generate verify images e2e constraints benchmark benchmark-cluster benchmark-memory clean

help: ## Show this help
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

demo: $(DEMO_STAMP) ## Run the fan-out example: API server, operator and worker on this machine, no cluster
	$(BIN)/hatchet-operator dev examples/fanout/worker.py --run Parent
	@echo 'for the command itself in this shell:  . $(BIN)/activate' >&2

test: $(DEV_STAMP) verify lint ## Everything that can be checked on this machine
	$(BIN)/python -m pytest tests/unit -n 2
	$(BIN)/python -m pytest tests/chart tests/conformance tests/kube
	$(BIN)/python -m pytest tests/integration -n 3 --dist loadfile

test-versions: ## Unit tests and the demo with each later Python that is at hand
	@for version in 3.12 3.13 3.14; do \
	  python=$$(for found in python$$version $$HOME/.pyenv/versions/$$version.*/bin/python; do \
	    "$$found" -c '' 2>/dev/null && echo "$$found" && break; done); \
	  if [ -z "$$python" ]; then echo "no Python $$version is at hand"; continue; fi; \
	  echo "with $$python"; \
	  $(MAKE) --no-print-directory VENV=$(VENV)-$$version PYTHON=$$python demo test-unit || exit 1; \
	done

test-unit: $(DEV_STAMP) ## Tests without processes or servers of ours
	$(BIN)/python -m pytest tests/unit -n 2

test-integration: $(DEV_STAMP) ## Operator, embedded API server, gRPC and workers as real processes
	$(BIN)/python -m pytest tests/integration -n 3 --dist loadfile

test-chart: $(DEV_STAMP) ## The chart, with Helm (HATCHET_TEST_HELM says where that is) and a real API server
	$(BIN)/python -m pytest tests/chart tests/integration/test_rights.py

test-conformance: $(DEV_STAMP) ## Embedded API server against the real one (HATCHET_TEST_KUBE_BIN says where that is)
	$(BIN)/python -m pytest tests/conformance

# The versions need different majors of protobuf, so each has an environment of its own.
PUBLISHED := $(foreach version,0.36.24 0.47.1,$(VENV)/published-$(version))
test-published: $(DEV_STAMP) $(PUBLISHED:=/.installed) ## Programs of Hatchet's published SDK against the operator
	HATCHET_TEST_PUBLISHED_SDK=$$(echo $(PUBLISHED:=/bin/python) | tr ' ' :) $(BIN)/python -m pytest tests/compat

$(VENV)/published-%/.installed: | $(VENV)/bin/python
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check hatchet-sdk==$*
	@touch $@

images: $(DEV_STAMP) ## Build the images, with Docker or without
	PYTHON=$(BIN)/python images/build.sh

e2e: $(DEV_STAMP) ## Make a cluster (kind with Docker, else its own), run tests/e2e on it, remove it
	$(BIN)/python -m tests.e2e

lint: $(DEV_STAMP) ## Format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV_STAMP) ## Rewrite the sources in our format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

PROTOS := $(wildcard sdk/hatchet_sdk/contracts/*.proto)
generate: $(DEV_STAMP) ## Write stubs, CRDs and the chart's table of values anew
	$(BIN)/python -m grpc_tools.protoc -I sdk --python_out=sdk --grpc_python_out=sdk \
	  --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
	  --mypy_out=quiet:sdk --mypy_grpc_out=quiet:sdk $(PROTOS)
	$(BIN)/python -m hatchet_operator.resources.crds crds/
	$(BIN)/python -m charts.readme

verify: generate ## Fail if a generated file is not what its source makes
	@git diff --exit-code --stat -- crds charts sdk/hatchet_sdk/contracts || \
	  { echo 'error: generated files were stale; commit what "make generate" wrote'; exit 1; }

benchmark: $(DEV_STAMP) ## Fan-outs of 10, 100 and 1000 against the embedded server (and a real one, see benchmarks/README.md)
	$(BIN)/python -m benchmarks.fanout

benchmark-memory: $(DEV_STAMP) ## Memory, time and pauses of starts with 50,000 finished runs, and the tests' bound with as many
	$(BIN)/python -m benchmarks.many_runs
	HATCHET_TEST_FINISHED_RUNS=50000 $(BIN)/python -m pytest tests/integration/test_memory.py

benchmark-cluster: $(DEV_STAMP) ## Fan-outs, cold starts and pods per run on a cluster that is made for it (see docs/performance.md)
	$(BIN)/python -m tests.e2e.cluster run $(BIN)/python -m benchmarks.on_cluster

constraints: ## Pin anew what is installed in the virtual environment
	@{ echo '# Every dependency that an installation of this repository may pull in, pinned. Written by "make constraints".'; \
	  $(BIN)/pip freeze --exclude-editable | grep -v -i '^hatchet' | LC_ALL=C sort -f; } > constraints.txt

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) $(VENV)-* .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c '$(IS_FINE)' 2>/dev/null || { \
	  echo "error: $(PYTHON) is $$($(PYTHON) --version 2>&1 | head -1); Python 3.11 or later is needed:" \
	    "make $(or $(firstword $(MAKECMDGOALS)),demo) PYTHON=python3.12, or whatever yours is called" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt setuptools wheel

$(DEMO_STAMP): $(VENV)/bin/python constraints.txt operator/pyproject.toml sdk/pyproject.toml
	@echo 'installing into $(VENV) (once) …' >&2
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e sdk -e operator
	@touch $@

$(DEV_STAMP): $(DEMO_STAMP) requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -r requirements-dev.txt
	@touch $@
