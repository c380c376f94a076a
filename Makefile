# Bamikube. 'make up' is all it takes; 'make help' lists the rest.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
BAMIKUBE := $(VENV)/bin/bamikube
STAMP := $(VENV)/.bamikube-installed
LAB_DIR ?= .lab
SEEDS ?= 120

.DEFAULT_GOAL := help
.PHONY: help up down status kubeconfig install packages images test check unit integration e2e soak sim bench fmt proto clean

help:
	@echo "make up          set everything up and start the lab (three nodes on this machine)"
	@echo "make status      what runs"
	@echo "make down        stop the lab, leave nothing behind"
	@echo "make kubeconfig  print the path of the administrator's kubeconfig"
	@echo "make install     Debian packages and Python environment only"
	@echo "make check       format, lint, types, layers, unit tests"
	@echo "make test        what CI runs: check, integration, simulation, main e2e paths"
	@echo "make e2e         the whole e2e;  make soak: the long runs;  make sim SEEDS=1000: more histories"
	@echo "make bench       the figures of docs/performance.md"
	@echo "make fmt         format the code;  make proto: generate services/bamikube/rpc"
	@echo "make clean       stop the lab and remove caches and the environment"

# -- set-up: each step is quick when there is nothing to do ----------------------------------------------------------------

packages:
	@PYTHON=$(PYTHON) deploy/install-packages.sh

$(STAMP): requirements.lock pyproject.toml | packages
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name one with PYTHON=..."; exit 1; }
	@test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV)
	@echo "installing Python packages (versions and hashes of requirements.lock)"
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

install: packages $(STAMP)

# -- the lab --------------------------------------------------------------------------------------------------------------------

up: install
	@$(BAMIKUBE) --lab-dir $(LAB_DIR) up

down:
	@if [ -x $(BAMIKUBE) ]; then $(BAMIKUBE) --lab-dir $(LAB_DIR) down; else echo "No lab runs here."; fi

status: install
	@$(BAMIKUBE) --lab-dir $(LAB_DIR) status

kubeconfig:
	@if [ -x $(BAMIKUBE) ]; then $(BAMIKUBE) --lab-dir $(LAB_DIR) kubeconfig; else echo $(abspath $(LAB_DIR))/kubeconfig; fi

images: install
	@$(BAMIKUBE) --lab-dir $(LAB_DIR) image build

# -- tests ------------------------------------------------------------------------------------------------------------------------

check: install
	$(VENV)/bin/ruff format --check services tests bench proto examples
	$(VENV)/bin/ruff check services tests bench proto examples
	$(VENV)/bin/mypy
	PYTHONPATH=services $(VENV)/bin/lint-imports
	$(MAKE) --no-print-directory unit

unit: install
	$(PY) -m pytest tests/unit $(wildcard tests/golden)

integration: install
	$(PY) -m pytest tests/integration

sim: install
	@if [ -d tests/simulation ]; then PYTHONHASHSEED=0 BAMIKUBE_SEEDS=$(SEEDS) $(PY) -m pytest tests/simulation; fi

# The lab of the e2e tests is stopped even when they fail.
define with_lab
	@status=0; $(PY) -m pytest tests/e2e $(1) || status=$$?; $(BAMIKUBE) --lab-dir $(LAB_DIR) down; exit $$status
endef

test: check integration sim
	$(call with_lab,-m "not slow")

e2e: install
	$(call with_lab,)

soak: install
	@if [ -d tests/soak ]; then timeout 3600 $(PY) -m pytest tests/soak; fi
	$(MAKE) --no-print-directory sim SEEDS=2000
	$(call with_lab,-m "slow")

bench: install
	@PYTHON=$(PYTHON) deploy/install-packages.sh --bench
	@PYTHONPATH=services $(PY) bench/run.py

# -- upkeep -----------------------------------------------------------------------------------------------------------------------

fmt: install
	$(VENV)/bin/ruff format services tests bench proto examples
	$(VENV)/bin/ruff check --fix services tests bench proto examples

proto: install
	$(PY) proto/generate.py

clean: down
	rm -rf $(VENV) .cache build *.egg-info services/*.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
