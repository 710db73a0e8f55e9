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
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | sort | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

.PHONY: venv
venv: $(VENV)/.done  ## the Python environment in .venv, with the command at .venv/bin/bgp-agent

$(VENV)/.done: requirements/dev.txt pyproject.toml $(wildcard azure/twin/pyproject.toml)
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || lab/install python3-venv
	@echo "Installing the Python packages of requirements/dev.txt into $(VENV): a minute, once"
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e . $(if $(wildcard azure/twin/pyproject.toml),-e azure/twin)
	@touch $@

.PHONY: tools
tools:  ## the Debian packages that lab and tests use (BIRD, FRR, GoBGP, OpenBGPD, iproute2, ...); asks for root only if one is missing
	@lab/install bird2 iproute2 iputils-ping nftables procps systemd tcpdump util-linux

.PHONY: lab
lab: venv tools  ## the main job, on this machine: 3 nodes, 2 route servers, proofs (KEEP=1 stays up)
	@$(SANDBOX) $(BIN)/python -m lab $(if $(filter-out 0 no,$(KEEP)),--keep)

.PHONY: lab-shell
lab-shell:  ## a shell inside a lab that runs in another terminal: NODE=node-a, CMD="ip route"
	@$(PYTHON) lab/inside.py $(or $(NODE),node-a) $(CMD)

.PHONY: kube
kube: venv  ## kube-apiserver, kubectl, helm and kwok from Go modules, once for a machine, and etcd: the Kubernetes tests need them
	@lab/install etcd-server
	@$(BIN)/python -m lab.kube.build

.PHONY: test
test: venv tools  ## unit, property, router and lab tests, in a sandbox; the summary names what was skipped (ARGS="-k word")
	@$(SANDBOX) $(BIN)/python -m pytest -n $(JOBS) --timeout 120 -m "not soak" --ignore tests/azure/twin/lab --ignore tests/azure/story $(ARGS)

.PHONY: test-twin
test-twin: venv tools  ## the Azure twin's data path: namespaces as its fabric, BIRD as its Route Server, appliances that peer
	@$(SANDBOX) $(BIN)/python -m pytest --timeout 240 tests/azure/twin/lab tests/azure/story $(ARGS)

# Images and what was installed for them stay in COMPOSE_CACHE; the daemon, its containers and networks do not.
COMPOSE_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/bgp-agent-compose
.PHONY: compose-test
compose-test: venv  ## docker-compose.yml: builds its images and plays the story, on a Docker daemon of its own (root)
	@lab/install docker.io docker-compose debootstrap iproute2 util-linux
	@$(SUDO) env PYTHONPATH=$(CURDIR) PATH="$$PATH" lab/compose/build $(COMPOSE_CACHE)/docker
	@$(SUDO) env COMPOSE_DATA=$(COMPOSE_CACHE)/docker $(SANDBOX) $(BIN)/python -m pytest tests/compose $(ARGS)

.PHONY: unit
unit: venv  ## unit and property tests only: no root, no namespaces
	@$(BIN)/python -m pytest -n $(JOBS) --timeout 120 -m "not soak" tests/unit $(ARGS)

.PHONY: coverage
coverage: venv  ## every branch of every core module, by the tests of its own (ARGS="rib own" for some)
	@$(BIN)/python tests/unit/core/own_coverage.py $(ARGS)

.PHONY: soak
soak: venv tools  ## the tests that wait for minutes of real protocol timers
	@$(SANDBOX) $(BIN)/python -m pytest --timeout 900 -m soak $(ARGS)

.PHONY: fuzz
fuzz: venv tools  ## every property test and state machine, with FUZZ=50 times the usual number of examples
	@FUZZ=$(or $(FUZZ),50) $(SANDBOX) $(BIN)/python -m pytest -n $(JOBS) -m hypothesis tests/unit $(ARGS)

.PHONY: bench
bench: venv tools  ## beside BIRD, FRR and ExaBGP alone, in twelve minutes; writes the performance page (QUICK=1: four)
	@lab/install frr
	@$(SANDBOX) $(BIN)/python -m bench $(if $(filter-out 0 no,$(QUICK)),--quick)

.PHONY: lint
lint: venv  ## ruff: rules and format
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

.PHONY: types
types: venv  ## mypy, strict
	@$(BIN)/mypy

.PHONY: format
format: venv  ## let ruff put the code in shape
	@$(BIN)/ruff check --fix-only -q . ; $(BIN)/ruff format -q .

.PHONY: docs
docs: venv  ## write what is made from the code: state machine diagrams, configuration and command line reference
	@$(BIN)/python docs/generate.py

.PHONY: manifests
manifests: venv  ## the plain manifests of deploy/manifests from the Helm chart (needs helm: `make kube`)
	@$(BIN)/python -m lab.kube.chart > deploy/manifests/bgp-agent.yaml.new
	@mv deploy/manifests/bgp-agent.yaml.new deploy/manifests/bgp-agent.yaml

.PHONY: build
build: venv  ## wheel and source distribution, in dist/
	@$(BIN)/python -m build -q --no-isolation

.PHONY: man
man: build/bgp-agent.1  ## the man page, in build/

build/bgp-agent.1: bgp_agent/cli/parser.py bgp_agent/__init__.py | $(VENV)/.done
	@mkdir -p $(@D)
	@$(BIN)/argparse-manpage --module bgp_agent.cli.parser --function build_parser --project-name bgp-agent --prog bgp-agent --manual-title bgp-agent --output $@

# A release is a folder of its own and `current` points at one: what runs keeps its files while another is installed.
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' bgp_agent/__init__.py)
PREFIX ?= /opt/bgp-agent
LOCAL := $(DESTDIR)/usr/local

.PHONY: install
install: $(PREFIX)/$(VERSION)/bin/bgp-agent install-files  ## on this host, as root, after `make build man`: docs/how-to/install.md
	systemd-sysusers /usr/local/lib/sysusers.d/bgp-agent.conf
	systemd-tmpfiles --create /usr/local/lib/tmpfiles.d/bgp-agent.conf
	ln -sfn $(VERSION) $(PREFIX)/next && mv -T $(PREFIX)/next $(PREFIX)/current
	ln -sf $(PREFIX)/current/bin/bgp-agent /usr/local/bin/bgp-agent
	@systemctl daemon-reload || echo "no systemd runs here: the units take effect when one does"
	@echo "$(VERSION) is installed; nothing was started or restarted"

$(PREFIX)/$(VERSION)/bin/bgp-agent:
	@test -e dist/bgp_agent-$(VERSION)-py3-none-any.whl || { echo "no wheel in dist/: \`make build man\` first"; exit 1; }
	python3 -m venv $(PREFIX)/$(VERSION)
	$(PREFIX)/$(VERSION)/bin/pip install -q --disable-pip-version-check --require-hashes -r requirements/runtime.txt
	$(PREFIX)/$(VERSION)/bin/pip install -q --disable-pip-version-check --no-deps dist/bgp_agent-$(VERSION)-py3-none-any.whl

# Everything but the program itself; DESTDIR=... for whoever builds a package.
.PHONY: install-files
install-files:
	@test -e build/bgp-agent.1 || { echo "no man page in build/: \`make build man\` first"; exit 1; }
	install -d $(LOCAL)/lib/systemd/system $(LOCAL)/lib/sysusers.d $(LOCAL)/lib/tmpfiles.d $(LOCAL)/share/man/man1 $(DESTDIR)/etc/bgp-agent
	for unit in deploy/systemd/*.service; do sed 's|/opt/bgp-agent|$(PREFIX)|' $$unit >$(LOCAL)/lib/systemd/system/$${unit##*/}; done
	install -m 644 deploy/systemd/bgp-agent.sysusers.conf $(LOCAL)/lib/sysusers.d/bgp-agent.conf
	install -m 644 deploy/systemd/bgp-agent.tmpfiles.conf $(LOCAL)/lib/tmpfiles.d/bgp-agent.conf
	install -m 644 build/bgp-agent.1 $(LOCAL)/share/man/man1/bgp-agent.1
	install -m 644 deploy/systemd/config.yaml $(DESTDIR)/etc/bgp-agent/config.yaml.example

.PHONY: lock
lock:  ## write the hash-pinned requirement files anew (needs uv)
	uv pip compile -q --generate-hashes --no-header --no-emit-index-url --universal --python-version 3.11 pyproject.toml -o requirements/runtime.txt
	uv pip compile -q --generate-hashes --no-header --no-emit-index-url --universal --python-version 3.11 -c requirements/runtime.txt pyproject.toml requirements/dev.in -o requirements/dev.txt

.PHONY: clean
clean:  ## remove what was built here
	rm -rf $(VENV) build dist .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis

# The real `az` and the Azure SDK against the Azure twin: an environment of their own, 2 minutes and 733 MB to install.
AZURE_CLI := .cache/azure-cli
.PHONY: test-azure-cli
test-azure-cli: venv tools $(AZURE_CLI)/.done  ## az and the Azure SDK against the Azure twin, the scripts of azure/ too (installs 733 MB)
	@AZURE_CLI_ENV=$(abspath $(AZURE_CLI)) $(SANDBOX) $(BIN)/python -m pytest tests/azure/twin/clients tests/azure/deploy $(ARGS)

$(AZURE_CLI)/.done: requirements/azure-cli.txt
	$(PYTHON) -m venv --clear $(AZURE_CLI)
	$(AZURE_CLI)/bin/pip install -q --disable-pip-version-check --require-hashes -r requirements/azure-cli.txt
	@touch $@
