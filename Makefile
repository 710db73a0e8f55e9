# One way to run each thing; README, CI and the docs call these targets. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= 2
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
# Everything that makes namespaces runs inside one private mount, network and process namespace: it vanishes as a whole.
SANDBOX := lab/sandbox

.PHONY: help
help:  ## list the targets
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | sort | awk -F':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

.PHONY: venv
venv: $(VENV)/.done  ## the Python environment in .venv, with the command at .venv/bin/bgp-agent

$(VENV)/.done: requirements/dev.txt pyproject.toml $(wildcard azure/twin/pyproject.toml)
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || lab/install python3-venv
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e . $(if $(wildcard azure/twin/pyproject.toml),-e azure/twin)
	@touch $@

.PHONY: tools
tools:  ## the Debian packages that lab and tests use (BIRD, iproute2, tcpdump, ...); asks for root only if one is missing
	@lab/install bird2 iproute2 iputils-ping nftables procps tcpdump util-linux

.PHONY: test
test: venv tools  ## unit, property, router and lab tests, in a sandbox of their own
	@$(SANDBOX) $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup -m "not soak" $(ARGS)

.PHONY: unit
unit: venv  ## unit and property tests only: no root, no namespaces
	@$(BIN)/python -m pytest -n $(JOBS) tests/unit $(ARGS)

.PHONY: soak
soak: venv tools  ## the tests that wait for minutes of real protocol timers
	@$(SANDBOX) $(BIN)/python -m pytest -m soak $(ARGS)

.PHONY: lint
lint: venv  ## ruff: rules and format
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

.PHONY: types
types: venv  ## mypy, strict
	@$(BIN)/mypy

.PHONY: format
format: venv  ## let ruff put the code in shape
	@$(BIN)/ruff check --fix-only -q . ; $(BIN)/ruff format -q .

.PHONY: lock
lock:  ## write the hash-pinned requirement files anew (needs uv)
	uv pip compile -q --generate-hashes --no-header --no-emit-index-url --universal --python-version 3.11 pyproject.toml -o requirements/runtime.txt
	uv pip compile -q --generate-hashes --no-header --no-emit-index-url --universal --python-version 3.11 -c requirements/runtime.txt pyproject.toml requirements/dev.in -o requirements/dev.txt

.PHONY: clean
clean:  ## remove what was built here
	rm -rf $(VENV) dist .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis

# The real `az` and the Azure SDK against the Azure twin: an environment of their own, 2 minutes and 733 MB to install.
AZURE_CLI := .cache/azure-cli
.PHONY: test-azure-cli
test-azure-cli: venv tools $(AZURE_CLI)/.done  ## az and the Azure SDK against the Azure twin (installs 733 MB)
	@AZURE_CLI_ENV=$(abspath $(AZURE_CLI)) $(SANDBOX) $(BIN)/python -m pytest tests/azure/twin/clients $(ARGS)

$(AZURE_CLI)/.done: requirements/azure-cli.txt
	$(PYTHON) -m venv --clear $(AZURE_CLI)
	$(AZURE_CLI)/bin/pip install -q --disable-pip-version-check --require-hashes -r requirements/azure-cli.txt
	@touch $@
