# Every command of the project. Python 3.11 or later and make are all that a machine needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# the four distributions, then what only development needs; a stamp file says what is installed
DEMO_STAMP := $(VENV)/.installed-packages
DEV_STAMP := $(VENV)/.installed-dev

# A virtual environment of an older Python, or of one that is gone, would break every further try: it is replaced.
IS_FINE := import sys; sys.exit(sys.version_info < (3, 11))
ifneq ($(filter-out help clean,$(or $(MAKECMDGOALS),help)),)
ifneq ($(wildcard $(BIN)),)
ifneq ($(shell $(BIN)/python -c '$(IS_FINE)' 2>/dev/null && echo fine),fine)
$(info $(VENV) is of a Python older than 3.11, or one that is gone; it is replaced)
$(shell rm -rf $(VENV))
endif
endif
endif

.DEFAULT_GOAL := help
.PHONY: help dashboard dashboard-verify demo test test-unit test-versions test-integration test-chart test-conformance test-published lint format generate verify images e2e mixed-load constraints bench benchmark-memory costs clean

help: ## Show this help
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

demo: $(DEMO_STAMP) ## Run the fan-out example: API server, operator and worker on this machine, no cluster
	$(BIN)/hatchet-operator dev examples/fanout/worker.py --run Parent
	@echo 'for the command itself in this shell:  . $(BIN)/activate' >&2

test: $(DEV_STAMP) s3-server azure-server checkov verify lint ## Everything that can be checked on this machine
	$(BIN)/python -m pytest tests/unit -n 2
	$(BIN)/python -m pytest tests/chart tests/conformance tests/kube -n 2 --dist loadfile
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

test-integration: $(DEV_STAMP) s3-server azure-server ## Operator, embedded API server, gRPC and workers as real processes
	$(BIN)/python -m pytest tests/integration -n 3 --dist loadfile

# A real S3 server for tests/integration/test_payloads_s3.py and test_payloads_gcs.py, which are skipped with a word where there is none.
S3_SERVER := $(VENV)/s3/versitygw
.PHONY: s3-server benchmark-payloads
s3-server: ## Build the S3 server of the tests, once and if Go is at hand (3 minutes)
	@[ -x $(S3_SERVER) ] || ! command -v go > /dev/null || { \
	  echo 'building an S3 server (once) …' >&2; \
	  GOBIN=$(CURDIR)/$(dir $(S3_SERVER)) go install github.com/versity/versitygw/cmd/versitygw@v1.8.0 || \
	  echo 'no S3 server could be built: its tests are skipped' >&2; }

# Microsoft's emulator of Azure's Blob Storage, for tests/integration/test_payloads_azure.py.
AZURE_SERVER := $(VENV)/azurite/node_modules/.bin/azurite-blob
.PHONY: azure-server
azure-server: ## Install the Azure emulator of the tests, once and if npm is at hand (1 minute)
	@[ -x $(AZURE_SERVER) ] || ! command -v npm > /dev/null || { \
	  echo 'installing an emulator of Azure Blob Storage (once) …' >&2; \
	  npm install --silent --no-audit --no-fund --prefix $(VENV)/azurite azurite@3.37.0 || \
	  echo 'no emulator of Azure could be installed: its tests are skipped' >&2; }

# A linter of Kubernetes manifests, for tests/chart/test_linters.py; what it needs is not what we need, so it is apart.
CHECKOV := $(VENV)/checkov/bin/checkov
.PHONY: checkov
checkov: | $(VENV)/bin/python ## Install the linter of the chart's manifests, once (half a minute)
	@[ -x $(CHECKOV) ] || { \
	  echo 'installing a linter of manifests (once) …' >&2; \
	  $(PYTHON) -m venv $(VENV)/checkov && \
	  $(VENV)/checkov/bin/pip install --quiet --disable-pip-version-check checkov==3.3.30 || \
	  echo 'no linter of manifests could be installed: its test is skipped' >&2; }

# A second one, of another opinion. Not a part of CI: to build it takes a minute of two cores.
.PHONY: kube-score
kube-score: ## Build another linter of the chart's manifests, for tests/chart/test_linters.py (1 minute, needs Go)
	GOBIN=$(CURDIR)/$(VENV)/kube-score go install github.com/zegl/kube-score/cmd/kube-score@v1.20.0

test-chart: $(DEV_STAMP) checkov ## The chart, with Helm (HATCHET_TEST_HELM says where that is) and a real API server
	$(BIN)/python -m pytest tests/chart tests/integration/test_rights.py

test-conformance: $(DEV_STAMP) ## Embedded API server against the real one (HATCHET_TEST_KUBE_BIN says where that is)
	$(BIN)/python -m pytest tests/conformance

# The versions need different majors of protobuf, so each has an environment of its own.
PUBLISHED := $(foreach version,0.36.24 0.47.1 1.43.1,$(VENV)/published-$(version))
PUBLISHED_NODE := $(VENV)/published-typescript
PUBLISHED_GO := $(VENV)/published-go
PUBLISHED_ELSEWHERE := $(if $(shell command -v npm),$(PUBLISHED_NODE)/.installed) $(if $(shell command -v go),$(PUBLISHED_GO)/program)
test-published: $(DEV_STAMP) $(PUBLISHED:=/.installed) $(PUBLISHED_ELSEWHERE) ## Programs of Hatchet's published SDKs (Python; TypeScript, Go where npm, go are) against the operator
	HATCHET_TEST_PUBLISHED_SDK=$$(echo $(PUBLISHED:=/bin/python) | tr ' ' :) \
	  HATCHET_TEST_TYPESCRIPT_SDK=$(abspath $(PUBLISHED_NODE)/node_modules) HATCHET_TEST_GO_PROGRAM=$(abspath $(PUBLISHED_GO)/program) \
	  $(BIN)/python -m pytest tests/compat

$(VENV)/published-%/.installed: | $(VENV)/bin/python
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check hatchet-sdk==$*
	@touch $@

$(PUBLISHED_NODE)/.installed: | $(VENV)/bin/python
	npm install --silent --no-audit --no-fund --prefix $(@D) @hatchet-dev/typescript-sdk@1.33.2
	@touch $@

$(PUBLISHED_GO)/program: $(wildcard tests/compat/programs/golang/*) | $(VENV)/bin/python
	cd tests/compat/programs/golang && go build -o $(abspath $@) .

images: $(DEV_STAMP) ## Build the images, with Docker or without
	PYTHON=$(BIN)/python images/build.sh

# For HATCHET_TEST_IMAGE_ARCHIVES=DIR make e2e, which otherwise builds them itself.
.PHONY: images-for-e2e
images-for-e2e: $(DEMO_STAMP) ## Build the images of the tests on a cluster into the folder SAVE=DIR
	PUBLISHED="$$($(BIN)/python -m tests.e2e.images)" PYTHON=$(BIN)/python images/build.sh --save $(SAVE)

e2e: $(DEV_STAMP) ## Make a cluster (kind with Docker, else its own), run tests/e2e on it, remove it
	$(BIN)/python -m tests.e2e

# FROM: a commit or tag; by default the last tag v*. Not a part of CI: it builds the images of two versions.
.PHONY: e2e-upgrade
e2e-upgrade: $(DEV_STAMP) ## From an earlier version (FROM=REF) to this one and back on a cluster, with runs in flight (10 minutes)
	$(BIN)/python -m tests.e2e.upgrade --from=$(FROM)

.PHONY: upgrade
upgrade: $(DEV_STAMP) ## The same with processes, without a cluster (half a minute)
	$(BIN)/python -m tests.e2e.upgrade --without-cluster --from=$(FROM)

dashboard: ## Build the page, with Node (what it builds is kept in cli/hatchet_cli/dashboard/static)
	cd dashboard && npm ci --silent && npx biome check . && npm run --silent build

dashboard-verify: dashboard ## Fail if the page that is kept is not what its source makes
	@git diff --exit-code --stat -- cli/hatchet_cli/dashboard/static || { echo 'error: the page was stale; commit what "make dashboard" wrote'; exit 1; }

# RELEASE_OPTIONS: see "python -m release --help", such as --images and --key.
.PHONY: release
release: $(DEV_STAMP) ## Build wheels, charts, the kubectl plugin, SBOM, checksums and provenance into dist/ (needs Helm)
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -r release/requirements.txt
	$(BIN)/python -m release $(RELEASE_OPTIONS)

.PHONY: docs
docs: $(DEV_STAMP) ## Build the documentation as a site (build/site), and fail for a link that leads nowhere
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -r docs/site/requirements.txt
	$(BIN)/sphinx-build --quiet --fresh-env --fail-on-warning --keep-going -c docs/site -b html . build/site

lint: $(DEV_STAMP) ## Format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV_STAMP) ## Rewrite the sources in our format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

PROTOS := $(wildcard sdk/hatchet_sdk/contracts/*.proto)
generate: $(DEV_STAMP) ## Write stubs, CRDs, their JSON schemas, the chart's table of values and the list of modules again
	$(BIN)/python -m grpc_tools.protoc -I sdk --python_out=sdk --grpc_python_out=sdk \
	  --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
	  --mypy_out=quiet:sdk --mypy_grpc_out=quiet:sdk $(PROTOS)
	$(BIN)/python -m hatchet_operator.resources.make_crds crds/ \
	  --recorded-version charts/hatchet-operator/files/recorded-version.yaml
	$(BIN)/python -m hatchet_operator.resources.schemas schemas/
	$(BIN)/python -m charts.readme
	$(BIN)/python -m docs.modules
	$(BIN)/python -m docs.reference

verify: generate ## Fail if a generated file is not what its source makes
	@git diff --exit-code --stat -- crds operator/hatchet_operator/resources/crds.json schemas charts sdk/hatchet_sdk/contracts docs/modules.md docs/reference || \
	  { echo 'error: generated files were stale; commit what "make generate" wrote'; exit 1; }

benchmark-payloads: $(DEV_STAMP) ## Hold a fan-out of 500 outputs of 1 MiB to the bounds of memory in docs/payloads.md
	HATCHET_TEST_PAYLOADS=500 $(BIN)/python -m pytest -s tests/integration/test_payloads_memory.py -k stays_within_bounds

mixed-load: $(DEV_STAMP) ## Ten minutes of everything at once, with kills and faults, and a checker of what was promised
	$(BIN)/python -m tests.mixed_load

# SCENARIOS: names, or how these begin; BENCH_OPTIONS: see "python -m benchmarks --help".
bench: export HATCHET_TEST_PUBLISHED_SDK ?= $(abspath $(wildcard $(VENV)/published-0.36.24/bin/python))
bench: $(DEV_STAMP) ## Measure what it can do, resumably, and draw docs/performance.md (SCENARIOS="hello fanout" BENCH_OPTIONS="--budget 25m")
	$(BIN)/python -m benchmarks $(SCENARIOS) $(BENCH_OPTIONS)
	$(BIN)/python -m benchmarks.page

costs: $(DEV_STAMP) ## Move the ranges of what a child may cost to what it costs now (tests/integration/costs.json)
	$(BIN)/python -m tests.integration.costs

benchmark-memory: $(DEV_STAMP) ## Memory, time and pauses of starts with 50,000 finished runs, and the tests' bound with as many
	$(BIN)/python -m benchmarks.many_runs
	HATCHET_TEST_FINISHED_RUNS=50000 $(BIN)/python -m pytest tests/integration/test_memory.py

constraints: ## Pin what is installed in the virtual environment
	@{ echo '# Every dependency that an installation of this repository may pull in, pinned. Written by "make constraints".'; \
	  $(BIN)/pip freeze --exclude-editable | grep -v -i '^hatchet' | LC_ALL=C sort -f; } > constraints.txt

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) $(VENV)-* .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c '$(IS_FINE)' 2>/dev/null || { \
	  echo "error: $(PYTHON) is $$($(PYTHON) --version 2>&1 | head -1); Python 3.11 or later is needed:" \
	    "make $(or $(firstword $(MAKECMDGOALS)),demo) PYTHON=python3.12, or whatever yours is called" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt 'setuptools>=77' wheel

$(DEMO_STAMP): $(VENV)/bin/python constraints.txt operator/pyproject.toml cli/pyproject.toml dev/pyproject.toml sdk/pyproject.toml
	@echo 'installing into $(VENV) (once) …' >&2
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation -c constraints.txt -e sdk -e operator -e cli -e dev
	@touch $@

$(DEV_STAMP): $(DEMO_STAMP) requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -r requirements-dev.txt
	@touch $@
